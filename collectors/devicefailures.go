package collectors

import (
	"errors"
	"fmt"
)

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
