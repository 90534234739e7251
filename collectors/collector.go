// Package collectors observes the node and publishes the observation. Each collector has a file: Observe reads the
// kernel, Metrics declare what is published, a pure function of the node. Collectors know nothing of HTTP and nothing
// of each other.
package collectors

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/prometheus/client_golang/prometheus"

	"vxlan_exporter/internal/node"
)

// Collector is one source of the node's state.
//
// Observe reads it within ctx's deadline. known is what is known already (for every collector but the one that finds
// them: the devices and ports of now, and all else as the last observation found it) and must only be read. What was
// found is returned as a function that stores it, so that a late answer can be thrown away without a race; fill may be
// non-nil together with an error, when a part could be read. The error says what was read, from where, and what to do,
// and wraps a standard error that node.Classify understands. Observe is never called twice at the same time.
//
// Name, Declared, Describe and Publish are those of Metrics. Publish is not called when the observation has nothing of
// this collector.
type Collector interface {
	Name() string
	Observe(ctx context.Context, known *node.Node) (fill Fill, err error)
	Declared() []Metric
	Describe(ch chan<- *prometheus.Desc)
	Publish(n *node.Node, ch chan<- prometheus.Metric)
}

// Fill stores a collector's part of an observation.
type Fill func(*node.Node)

// errDevicesUnknown is the failure of a collector that observes the underlays of the devices.
var errDevicesUnknown = errors.New("which VXLAN devices there are could not be read (see the collector \"device\")")

// devicesUnknown distinguishes "no device" from "not read", for collectors that would otherwise take both for "none".
func devicesUnknown(known *node.Node) error {
	if r, ok := known.Results["device"]; ok && !r.Succeeded() && len(known.Devices) == 0 {
		return errDevicesUnknown
	}
	return nil
}

// ifThere takes "no such file" for an answer.
func ifThere(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// failure joins the errors of a collector whose sources must all be there: that one is missing is a failure, not an
// absence, so the error does not wrap fs.ErrNotExist.
func failure(errs ...error) error {
	for i, err := range errs {
		if errors.Is(err, fs.ErrNotExist) {
			errs[i] = errors.New(err.Error() + " (is --path.procfs right?)")
		}
	}
	return errors.Join(errs...)
}

// maxFailures is how many of many errors of one kind are quoted in full: 200 devices that fail alike need not say it
// 200 times.
const maxFailures = 3

// failures gathers the errors of many devices.
type failures struct {
	errs []error
	more int
}

func (f *failures) add(err error) {
	switch {
	case err == nil:
	case len(f.errs) < maxFailures:
		f.errs = append(f.errs, err)
	default:
		f.more++
	}
}

func (f *failures) join() error {
	err := errors.Join(f.errs...)
	if f.more > 0 {
		return fmt.Errorf("%w\nand %d more", err, f.more)
	}
	return err
}
