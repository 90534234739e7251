package grafana

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Dashboard is as much of the JSON as its queries and tests need. That the whole of it fits Grafana's schema is checked
// by its types (src/check).
type Dashboard struct {
	UID         string
	Title       string
	Description string
	Panels      []Panel
	Templating  struct{ List []Variable }
	Annotations struct{ List []Annotation }
	Links       []Link
	Time        struct{ From, To string }
	Refresh     string
	Tags        []string
}

// Datasource is a reference to one.
type Datasource struct{ Type, UID string }

// Panel is one of a dashboard, rows included.
type Panel struct {
	ID            int
	Type          string
	Title         string
	Description   string
	Datasource    Datasource
	GridPos       struct{ X, Y, W, H int }
	MaxDataPoints int // 0: as many as the panel has pixels
	FieldConfig   FieldConfig
	Targets       []Target
	Options       map[string]any
	// Transformations of what all targets gave, in their order.
	Transformations []struct {
		ID      string
		Options map[string]any
	}
}

// FieldConfig is how a panel shows values.
type FieldConfig struct {
	Defaults  Field
	Overrides []struct {
		Matcher    struct{ ID, Options string }
		Properties []struct {
			ID    string
			Value any
		}
	}
}

// Field is how all values of a panel are shown that no override names.
type Field struct {
	Unit     string
	NoValue  string
	Mappings []struct{ Type string }
	Color    Color
	Custom   map[string]any
}

// Color of what is shown: one, its shades, or a palette's.
type Color struct{ Mode, FixedColor string }

// Target is a query of a panel.
type Target struct {
	RefID        string
	Expr         string
	LegendFormat string
	Instant      bool
	Range        bool
	Datasource   Datasource
}

// Variable is one of a dashboard.
type Variable struct {
	Name, Type, Label, AllValue string
	Query                       any // text, or an object with a query in it
	Current                     map[string]any
	Refresh                     int // 1: when the dashboard loads, 2: when the time range changes
	IncludeAll, Multi           bool
	Datasource                  Datasource
}

// Annotation is a query whose answers mark all panels.
type Annotation struct {
	Datasource Datasource
	Expr       string
}

// Link of a dashboard.
type Link struct{ Title, URL, Tooltip string }

// Load reads the dashboards of a folder.
func Load(folder string) ([]Dashboard, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no dashboards (*.json) there", folder)
	}
	var all []Dashboard
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var d Dashboard
		if err := json.Unmarshal(raw, &d); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if d.UID+".json" != filepath.Base(file) {
			return nil, fmt.Errorf("%s: its uid is %q; want the file's name", file, d.UID)
		}
		all = append(all, d)
	}
	return all, nil
}
