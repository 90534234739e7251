package selftest

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// inNamespace calls f on a thread that is in a fresh network namespace. The thread ends with f and takes the namespace
// with it, once the sockets that f opened are closed; so it does when the process is killed.
func inNamespace(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- onOwnThread(f) }()
	return <-done
}

// onOwnThread leaves the calling goroutine locked to its thread, so that the runtime ends the thread with the
// goroutine.
func onOwnThread(f func() error) error {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The runtime cannot end the process's first thread, which would stay in the namespace for good. While this goroutine
		// holds it, another one gets another thread.
		defer runtime.UnlockOSThread()
		return inNamespace(f)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	return f()
}
