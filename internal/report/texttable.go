package report

import "strings"

const (
	tableIndent = "  "
	tableGap    = "  "
	minColumn   = 6  // no column is made narrower than this
	wrapColumn  = 24 // nor the last one, before others are cut
)

// table writes a section: columns aligned, the widest of the left-aligned ones cut where the width does not suffice.
func (t *text) table(tab *table) {
	if len(tab.Rows) > 0 {
		widths := columnWidths(tab)
		head := make([]cell, 0, len(tab.Columns))
		for _, c := range tab.Columns {
			head = append(head, cell{c.Name, faint})
		}
		t.row(tab, widths, head)
		for _, r := range tab.Rows {
			t.row(tab, widths, r)
		}
	}
	for _, n := range tab.Notes {
		t.pair(tableIndent, n)
	}
}

func columnWidths(tab *table) []int {
	widths := make([]int, len(tab.Columns))
	total := len(tableIndent) - len(tableGap)
	for i, c := range tab.Columns {
		widths[i] = width(c.Name)
		for _, r := range tab.Rows {
			widths[i] = max(widths[i], width(clean(r[i].Text)))
		}
		total += widths[i] + len(tableGap)
	}
	for total > textWidth {
		widest := -1
		last := len(tab.Columns) - 1 // the last column is wrapped, so it gives way first
		for i, c := range tab.Columns {
			if widths[i] > minColumn && (widest < 0 || widths[i] > widths[widest]) && !c.Right {
				widest = i
			}
		}
		if !tab.Columns[last].Right && widths[last] > wrapColumn {
			widest = last
		}
		if widest < 0 {
			break
		}
		// One step at a time takes a while for a name of megabytes, which a saved observation may have.
		step := max(1, min(total-textWidth, widths[widest]-textWidth))
		widths[widest] -= step
		total -= step
	}
	return widths
}

func (t *text) row(tab *table, widths []int, row []cell) {
	var b strings.Builder
	b.WriteString(tableIndent)
	for i, c := range row {
		s := clean(c.Text)
		if i == len(row)-1 && !tab.Columns[i].Right && width(s) > widths[i] {
			lead := b.String()
			t.wrapFirst(lead, strings.Repeat(" ", visible(lead)), c.Text)
			return
		}
		if width(s) > widths[i] {
			s, _ = cut(s, widths[i]-2)
			s += ".."
		}
		pad := strings.Repeat(" ", max(0, widths[i]-width(s)))
		if tab.Columns[i].Right {
			b.WriteString(pad)
			pad = ""
		}
		b.WriteString(t.paint(c.Tone, s, false))
		if i < len(row)-1 {
			b.WriteString(pad + tableGap)
		}
	}
	t.line(b.String())
}
