package sockets

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Names of what is in the store begin so. The rest is escaped, since systemd's names hold no colon.
const (
	heldPrefix = "held/" // NETWORK/ADDRESS: a socket that was opened here
	keptPrefix = "kept/" // a descriptor that was left by name
)

// predecessorVariable holds the number of the process that a successor relieves.
const predecessorVariable = "MARU_PREDECESSOR"

// Store holds descriptors that outlive this process in systemd's file descriptor store
// (FileDescriptorStoreMax= in systemd.service(5)), and hands everything that this process was given
// to a successor that it starts. It is safe for concurrent use.
type Store struct {
	notify      string
	predecessor int

	mu        sync.Mutex
	files     map[string]*os.File // all that a successor gets, by name
	successor int                 // the process that was started last
}

// NewStore takes what an earlier process left in the store out of the parent's files, which keep the
// sockets of systemd's socket units.
func NewStore(parent Parent) (*Store, error) {
	s := &Store{notify: parent.notify, files: map[string]*os.File{}}
	if text, ok := os.LookupEnv(predecessorVariable); ok {
		if err := os.Unsetenv(predecessorVariable); err != nil {
			return nil, err
		}
		pid, err := strconv.Atoi(text)
		if err != nil || pid <= 1 {
			return nil, fmt.Errorf("%s=%q is not the number of a process", predecessorVariable, text)
		}
		s.predecessor = pid
	}
	for name, file := range parent.Files {
		if strings.HasPrefix(name, heldPrefix) || strings.HasPrefix(name, keptPrefix) {
			s.files[name] = file
			delete(parent.Files, name)
			continue
		}
		copied, err := Duplicate(file, name)
		if err != nil {
			return nil, fmt.Errorf("socket %s: %w", name, err)
		}
		s.files[name] = copied
	}
	return s, nil
}

// Listen gives a listening socket that is in the store, opening it if it is not there yet.
func (s *Store) Listen(ctx context.Context, network, address string) (*os.File, error) {
	name := heldName(network, address)
	s.mu.Lock()
	defer s.mu.Unlock()
	if held := s.files[name]; held != nil {
		return Duplicate(held, name)
	}
	file, err := Open(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if err := s.put(name, file); err != nil {
		_ = file.Close()
		return nil, err
	}
	return Duplicate(file, name)
}

// Release takes a socket out of the store. Releasing what is not there is no error.
func (s *Store) Release(network, address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drop(heldName(network, address))
}

// Keep puts a copy of the file into the store, in place of an earlier one of the name.
func (s *Store) Keep(name string, file *os.File) error {
	name = keptPrefix + url.QueryEscape(name)
	copied, err := Duplicate(file, name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.drop(name); err != nil {
		_ = copied.Close()
		return err
	}
	if err := s.put(name, copied); err != nil {
		_ = copied.Close()
		return err
	}
	return nil
}

// Kept gives the file that was kept under the name, or nil.
func (s *Store) Kept(name string) (*os.File, error) {
	name = keptPrefix + url.QueryEscape(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if file := s.files[name]; file != nil {
		return Duplicate(file, name)
	}
	return nil, nil
}

func heldName(network, address string) string {
	return heldPrefix + network + "/" + url.QueryEscape(address)
}

func (s *Store) put(name string, file *os.File) error {
	// FDPOLL=0: an error that is pending at a socket must not take it out of the store.
	if err := send(s.notify, lines("FDSTORE=1", "FDPOLL=0", "FDNAME="+name), file); err != nil {
		return err
	}
	s.files[name] = file
	return nil
}

func (s *Store) drop(name string) error {
	file := s.files[name]
	if file == nil {
		return nil
	}
	if err := send(s.notify, lines("FDSTOREREMOVE=1", "FDNAME="+name), nil); err != nil {
		return err
	}
	delete(s.files, name)
	return file.Close()
}

// Ready tells systemd that this process does its work, and its version. A successor becomes the main process of the
// unit, and only then tells its predecessor to end.
func (s *Store) Ready(version string) error {
	if s.predecessor == 0 {
		return send(s.notify, ready(version), nil)
	}
	if err := send(s.notify, lines("MAINPID="+strconv.Itoa(os.Getpid()), ready(version)), nil); err != nil {
		return err
	}
	if err := barrier(s.notify); err != nil {
		return err
	}
	return syscall.Kill(s.predecessor, syscall.SIGTERM)
}

// StartSuccessor runs the program on the disk with this process's arguments, environment and
// descriptors. It is a child of this process's parent, systemd, which so learns how it ends. Once it
// is ready it sends this process SIGTERM. While one is starting no other is started.
func (s *Store) StartSuccessor() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.successor != 0 && syscall.Kill(s.successor, 0) == nil {
		return nil
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	var names []string
	for name := range s.files {
		names = append(names, name)
	}
	slices.Sort(names)
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	for _, name := range names {
		files = append(files, s.files[name])
	}
	environment := append(os.Environ(), Environment(names)...)
	environment = append(environment, "NOTIFY_SOCKET="+s.notify, predecessorVariable+"="+strconv.Itoa(os.Getpid()))
	process, err := os.StartProcess(program, os.Args, &os.ProcAttr{
		Env: environment, Files: files, Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_PARENT},
	})
	if err != nil {
		return fmt.Errorf("start the successor: %w", err)
	}
	s.successor = process.Pid
	return process.Release()
}
