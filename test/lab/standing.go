package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// stateDir remembers the switches of rigs that outlive their maker. Like the namespaces, it is gone after a boot.
const stateDir = "/run/vxlan_exporter-lab"

type state struct {
	Options Options         `json:"options"`
	Tables  map[string]bool `json:"tables"`
}

// Raise builds a rig that outlives this process; o.Name is required. Its pod answers as long as some process runs ServeStanding.
func Raise(o Options) (*Rig, error) {
	if o.Name == "" {
		return nil, errors.New("a rig that is left standing needs a name")
	}
	if _, err := os.Stat(statePath(o.Name)); err == nil {
		return nil, fmt.Errorf("rig %q is already standing (take it down first)", o.Name)
	}
	r, err := build(o)
	if err != nil {
		return nil, err
	}
	if err := r.save(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Open returns the standing rig of that name. The error satisfies fs.ErrNotExist when there is none.
func Open(name string) (*Rig, error) {
	raw, err := os.ReadFile(statePath(name))
	if err != nil {
		return nil, fmt.Errorf("rig %q is not standing: %w", name, err)
	}
	var s state
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", statePath(name), err)
	}
	r := newRig(s.Options)
	r.tables = s.Tables
	var errs [3]error
	r.A, errs[0] = OpenNS(name + "-a")
	r.B, errs[1] = OpenNS(name + "-b")
	r.Pod, errs[2] = OpenNS(name + "-pod")
	return r, errors.Join(errs[:]...)
}

// TakeDown removes what is left of the standing rig of that name, whole or not. A rig that does not stand is no error.
func TakeDown(name string) error {
	r := &Rig{opts: Options{Name: name}}
	for role, ns := range map[string]**NS{"a": &r.A, "b": &r.B, "pod": &r.Pod} {
		n, err := OpenNS(name + "-" + role)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		*ns = n
	}
	return errors.Join(r.Close(), r.forget())
}

// ServeStanding answers in the pod of a standing rig until the rig is taken down or ctx ends.
func ServeStanding(ctx context.Context, name string) error {
	pod, err := OpenNS(name + "-pod")
	if err != nil {
		return err
	}
	mine, err := os.Stat(pod.Path())
	if err != nil {
		return err
	}
	s, err := servePod(pod)
	if err != nil {
		return err
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return s.close()
		case <-tick.C:
			// Not only gone: another rig of the same name may stand there by now.
			if now, err := os.Stat(pod.Path()); err != nil || !os.SameFile(mine, now) {
				return s.close()
			}
		}
	}
}

func (r *Rig) save() error {
	raw, err := json.MarshalIndent(state{r.opts, r.tables}, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(stateDir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(statePath(r.opts.Name), append(raw, '\n'), 0o644)
}

func (r *Rig) forget() error { return optional(os.Remove(statePath(r.opts.Name))) }

func statePath(name string) string { return filepath.Join(stateDir, name+".json") }
