package kerneltest

import (
	"os"
	"time"
)

// Fault is a way in which an interface breaks. Several at a time make little sense.
type Fault struct {
	Open    error // opening a socket fails
	Send    error // a request cannot be sent
	Receive error // receiving fails, after so many messages as After says
	After   int
	Refuse  error // the kernel answers with an error instead of what was asked for

	Silent        bool // no answer comes; deadlines are kept
	Hung          bool // no answer comes, and deadlines are not kept: a system call that does not return
	Endless       bool // the answer is repeated for ever
	OtherSequence bool // the answer is to another request
	OtherPort     bool // the answer is to another socket
	Interrupted   bool // what is dumped changes all the time (NLM_F_DUMP_INTR)
	Empty         bool // what was there to be listed is gone
	Repeated      bool // every message comes twice
	Cut           int  // so many bytes are missing at the end of every message

	OtherDevice bool   // names are other devices' by the time they are asked for
	Size        uint32 // the size in bytes that a table is said to have

	Device string // only questions about this device; all when empty
}

// about reports whether f concerns questions about the device called name.
func (f Fault) about(name string) bool { return f.Device == "" || f.Device == name }

// pace is how long an endless answer takes for each message, so that it does not also fill the machine.
const pace = 20 * time.Microsecond

// call makes a question that is one system call meet its fault. It returns nil when there is none.
func (k *Kernel) call(s Source, name string, d *deadline) error {
	f, changed := k.fault(s)
	switch {
	case !f.about(name):
		return nil
	case f.Hung:
		<-changed // until it is mended
		return nil
	case f.Silent || f.Endless:
		if d == nil {
			d = &deadline{}
		}
		if d.wait(changed) {
			return os.ErrDeadlineExceeded
		}
		return nil
	case f.Send != nil:
		return f.Send
	case f.Receive != nil:
		return f.Receive
	}
	return f.Refuse
}
