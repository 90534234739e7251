package capture

import (
	"fmt"

	"golang.org/x/net/bpf"
)

// program is a classic BPF program under construction. Its conditional jumps reach only 255 instructions ahead, so
// those to a label go over an unconditional one, which reaches everywhere.
type program struct {
	ins    []bpf.Instruction
	labels map[string]int
	jumps  map[int]string
}

func (p *program) emit(ins ...bpf.Instruction) { p.ins = append(p.ins, ins...) }

func (p *program) reject() { p.emit(bpf.RetConstant{}) }

// require rejects the packet unless A is v, refuse when it is.
func (p *program) require(v uint32) {
	p.emit(bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: 1}, bpf.RetConstant{})
}

func (p *program) refuse(v uint32) {
	p.emit(bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: v, SkipTrue: 1}, bpf.RetConstant{})
}

func (p *program) gotoIf(v uint32, label string) {
	p.emit(bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: v, SkipTrue: 1})
	p.jump(label)
}

func (p *program) jump(label string) {
	if p.jumps == nil {
		p.jumps = make(map[int]string)
	}
	p.jumps[len(p.ins)] = label
	p.emit(bpf.Jump{})
}

func (p *program) label(name string) {
	if p.labels == nil {
		p.labels = make(map[string]int)
	}
	p.labels[name] = len(p.ins)
}

// link fills in the jumps.
func (p *program) link() ([]bpf.Instruction, error) {
	for at, label := range p.jumps {
		to, ok := p.labels[label]
		if !ok || to <= at {
			return nil, fmt.Errorf("packet filter: jump to %q from %d does not go forward", label, at)
		}
		p.ins[at] = bpf.Jump{Skip: uint32(to - at - 1)}
	}
	return p.ins, nil
}
