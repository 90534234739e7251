// Command hostile tries what a taken-over exporter would try, and says for each attempt whether it was refused. The
// installation test runs it in a container, in the sandbox of each unit and outside of it. No attempt does harm where
// it succeeds: dangerous calls have arguments that cannot work, so that permission is all that they ask.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attempt is something that a sandbox should refuse.
type attempt struct {
	name string
	try  func() error
}

// never is a file descriptor that is not open.
const never = ^uintptr(0)

func main() {
	if len(os.Args) > 1 {
		if err := limits(os.Args[1]); err != nil {
			fmt.Println("refused", os.Args[1]+":", err)
			os.Exit(1)
		}
		fmt.Println("allowed", os.Args[1])
		return
	}
	for _, a := range attempts() {
		err := a.try()
		answer := "allowed"
		if refused(err) {
			answer = "refused"
		}
		fmt.Printf("%s %s: %v\n", answer, a.name, err)
	}
}

// limits tries what only a whole system can limit, one thing at a time.
func limits(what string) error {
	switch what {
	case "eat": // four times what the units allow
		b := make([]byte, 256<<20)
		for i := 0; i < len(b); i += os.Getpagesize() {
			b[i] = 1
		}
		return nil
	case "send": // to nobody, on this host
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return errors.Join(unix.Sendto(fd, []byte{0}, 0, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}),
			unix.Close(fd))
	default:
		return fmt.Errorf("no such attempt: %s", what)
	}
}

// refused tells a permission that is missing from arguments that cannot work.
func refused(err error) bool {
	for _, e := range []error{
		unix.EPERM, unix.EACCES, unix.EROFS, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT, unix.ESOCKTNOSUPPORT,
		unix.ENOENT, unix.ESRCH, // hidden, in a sandbox that hides files or processes
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func attempts() []attempt {
	return []attempt{
		{"write-etc", func() error { return write("/etc/hostile") }},
		{"write-usr", func() error { return write("/usr/bin/hostile.new") }},
		{"write-var", func() error { return write("/var/lib/hostile") }},
		{"write-run", func() error { return write("/run/hostile") }},
		{"write-settings", func() error { return open("/etc/default/vxlan_exporter", unix.O_WRONLY) }},
		{"read-root-home", func() error { _, err := os.ReadDir("/root"); return err }},
		{"read-shadow", func() error { return open("/etc/shadow", unix.O_RDONLY) }},
		{"write-sysctl", func() error { return open("/proc/sys/net/ipv4/ip_forward", unix.O_WRONLY) }},
		{"write-cgroup", func() error { return mkdir("/sys/fs/cgroup/hostile") }},
		{"open-kmsg", func() error { return open("/dev/kmsg", unix.O_RDONLY) }},
		{"see-init", func() error { _, err := os.ReadFile("/proc/1/cmdline"); return err }},
		{"mount", func() error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") }},
		{"packet-socket", func() error { return socket(unix.AF_PACKET, unix.SOCK_RAW, 0) }},
		{"raw-socket", func() error { return socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) }},
		{"vsock-socket", func() error { return socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0) }},
		{"load-module", func() error { return call(unix.SYS_FINIT_MODULE, never, 0, 0) }},
		{"set-clock", func() error { return call(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, 0, 0) }},
		{"reboot", func() error { return call(unix.SYS_REBOOT, 0, 0, 0) }},
		{"swap", func() error { return call(unix.SYS_SWAPOFF, 0, 0, 0) }},
		{"set-hostname", func() error { return call(unix.SYS_SETHOSTNAME, 0, 1, 0) }},
		{"ptrace", func() error { return call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(os.Getppid()), 0) }},
		{"keyring", func() error { return call(unix.SYS_ADD_KEY, 0, 0, 0) }},
		{"bpf", func() error { return call(unix.SYS_BPF, never, 0, 0) }},
		{"user-namespace", func() error { return child(&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}) }},
		{"mount-namespace", func() error { return child(&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}) }},
		{"net-namespace", func() error { return child(&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}) }},
		{"execute", func() error { return child(&syscall.SysProcAttr{}) }},
		{"setuid-file", setuidFile},
		{"write-and-execute", func() error {
			b, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
			if err == nil {
				err = unix.Munmap(b)
			}
			return err
		}},
		{"realtime", func() error {
			// struct sched_param; policy SCHED_FIFO.
			param := uint32(1)
			return call(unix.SYS_SCHED_SETSCHEDULER, 0, 1, uintptr(unsafe.Pointer(&param)))
		}},
		{"kill-init", func() error { return unix.Kill(1, 0) }},
		{"chroot", func() error { return unix.Chroot("/tmp") }}, // last: the rest would not find its files
	}
}

func write(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(path))
}

func mkdir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return os.Remove(path)
}

func open(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func socket(family, kind, protocol int) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func call(number, a, b, c uintptr) error {
	if _, _, errno := unix.Syscall(number, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

// child runs /bin/true, where it may.
func child(attr *syscall.SysProcAttr) error {
	p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{Sys: attr})
	if err != nil {
		return err
	}
	_, err = p.Wait()
	return err
}

func setuidFile() error {
	path := filepath.Join(os.TempDir(), "hostile")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	defer func() { _ = os.Remove(path) }()
	return unix.Chmod(path, 0o4755)
}
