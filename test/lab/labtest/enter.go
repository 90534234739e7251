package labtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// stageEnv says how far Enter has come: not set, startedStage in the process that it started, enteredStage once that is
// set up.
const (
	stageEnv     = "VXLAN_TEST_NAMESPACE"
	startedStage = "started"
	enteredStage = "entered"
)

// unavailable is why this process cannot make network namespaces.
var unavailable error

// Enter gives the tests of a package namespaces, for TestMain: without CAP_SYS_ADMIN they run in a process of their
// own, which is root in a user, network and mount namespace (user_namespaces(7)). The process that starts that one ends
// here. What the tests need of the network outside, prepare does before.
func Enter(prepare ...func() error) {
	for _, f := range prepare {
		if err := f(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	setEnv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin") // not on an ordinary user's path in Debian
	switch {
	case os.Getenv(stageEnv) == startedStage:
		setEnv(stageEnv, enteredStage)
		if err := setUp(); err != nil {
			unavailable = fmt.Errorf("the kernel allows no mounts in a user namespace: %w", err)
		}
	case os.Getenv(stageEnv) == enteredStage, privileged():
	default:
		status, err := runInNamespaces()
		if err == nil {
			os.Exit(status)
		}
		unavailable = fmt.Errorf("no root, and no user namespace: %w", err)
	}
}

func setEnv(name, value string) {
	if err := os.Setenv(name, value); err != nil {
		panic(err) // a name with = or a zero byte
	}
}

// privileged reports whether this thread has CAP_SYS_ADMIN.
func privileged() bool {
	var data [2]unix.CapUserData
	err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
	return err == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// runInNamespaces runs this program again, with the same arguments, and returns its exit status.
func runInNamespaces() (status int, err error) {
	runtime.LockOSThread() // Pdeathsig is about this thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stageEnv+"="+startedStage)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	if status = cmd.ProcessState.ExitCode(); status < 0 { // a signal
		status = 2
	}
	return status, nil
}

// setUp makes room for the names of network namespaces, and switches the loopback on.
func setUp() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount --make-rprivate /: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount a tmpfs on /run: %w", err)
	}
	return loopbackUp()
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("SIOCSIFFLAGS lo: %w", err)
	}
	_, err = net.InterfaceByName("lo")
	return err
}
