package logs

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// hub watches folders for all who follow, with one inotify instance: there are few of them.
type hub struct {
	mu      sync.Mutex
	file    *os.File // nil while nobody follows, or when there is no inotify
	folders map[string]*folder
	names   map[int32]string // of folders, by watch descriptor
	users   int
	polling bool          // don't use inotify
	done    chan struct{} // closed when file's reader has ended
}

type folder struct {
	descriptor int32
	users      map[*watch]bool
}

func newHub() *hub { return &hub{folders: map[string]*folder{}, names: map[int32]string{}} }

// watch is one follower's view of the hub.
type watch struct {
	hub    *hub
	signal chan struct{} // has a value when there is something to see

	mu      sync.Mutex
	dirty   map[string]bool
	all     bool // anything may have changed
	polling bool // not everything can be watched
}

// pollInterval is how often to look where inotify can't watch.
const pollInterval = 250 * time.Millisecond

func (h *hub) watch() *watch {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users++
	if h.file == nil && !h.polling {
		if fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err == nil {
			clear(h.folders)
			clear(h.names)
			h.file, h.done = os.NewFile(uintptr(fd), "inotify"), make(chan struct{})
			go h.read(h.file, h.done)
		}
	}
	return &watch{hub: h, signal: make(chan struct{}, 1), dirty: map[string]bool{}, polling: h.file == nil}
}

// add begins to watch a folder. What happens in it from now on is told; of one that is gone, nothing.
func (w *watch) add(dir string) error {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.folders[dir]; f != nil {
		f.users[w] = true
		return nil
	}
	if h.file == nil {
		return nil
	}
	wd, err := h.addWatch(dir)
	switch {
	case err == nil:
		h.folders[dir] = &folder{int32(wd), map[*watch]bool{w: true}}
		h.names[int32(wd)] = dir
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
	default: // the limit on watches is reached
		w.mu.Lock()
		w.polling = true
		w.mu.Unlock()
	}
	return nil
}

func (h *hub) addWatch(dir string) (wd int, err error) {
	conn, err := h.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	const mask = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MODIFY | unix.IN_DELETE_SELF | unix.IN_ONLYDIR
	if cerr := conn.Control(func(fd uintptr) { wd, err = unix.InotifyAddWatch(int(fd), dir, mask) }); cerr != nil {
		return 0, cerr
	}
	return wd, err
}

// remove ends the watch of a folder.
func (w *watch) remove(dir string) {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.hub.leave(w, dir)
}

func (h *hub) leave(w *watch, dir string) {
	f := h.folders[dir]
	if f == nil {
		return
	}
	delete(f.users, w)
	if len(f.users) > 0 {
		return
	}
	delete(h.folders, dir)
	if h.names[f.descriptor] == dir {
		delete(h.names, f.descriptor)
		if conn, err := h.file.SyscallConn(); err == nil {
			_ = conn.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), uint32(f.descriptor)) })
		}
	}
}

// close ends all that is watched. The last to leave ends the hub's goroutine too.
func (w *watch) close() {
	h := w.hub
	h.mu.Lock()
	for dir := range h.folders {
		h.leave(w, dir)
	}
	h.users--
	var done chan struct{}
	if h.users == 0 && h.file != nil {
		done = h.done
		_ = h.file.Close()
		h.file = nil
	}
	h.mu.Unlock()
	if done != nil {
		<-done
	}
}

// wait gives the folders in which something has changed since the last time, once there are any; or
// all, when anything may have changed. It gives nothing when ctx ends.
func (w *watch) wait(ctx context.Context) (dirs []string, all bool) {
	w.mu.Lock()
	polling := w.polling
	w.mu.Unlock()
	var poll <-chan time.Time
	if polling {
		timer := time.NewTimer(pollInterval)
		defer timer.Stop()
		poll = timer.C
	}
	select {
	case <-ctx.Done():
		return nil, false
	case <-poll:
		return nil, true
	case <-w.signal:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	dirs, all = slices.Sorted(maps.Keys(w.dirty)), w.all
	clear(w.dirty)
	w.all = false
	return dirs, all
}

func (w *watch) mark(dir string, all bool) {
	w.mu.Lock()
	if all {
		w.all = true
	} else {
		w.dirty[dir] = true
	}
	w.mu.Unlock()
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// read tells the followers what happens, until the file is closed.
func (h *hub) read(file *os.File, done chan struct{}) {
	defer close(done)
	for buf := make([]byte, 64<<10); ; {
		n, err := file.Read(buf)
		if err != nil {
			return
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			wd := int32(binary.NativeEndian.Uint32(b[0:]))
			mask := binary.NativeEndian.Uint32(b[4:])
			size := binary.NativeEndian.Uint32(b[12:])
			b = b[unix.SizeofInotifyEvent+int(size):]
			h.tell(wd, mask)
		}
	}
}

func (h *hub) tell(wd int32, mask uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if mask&unix.IN_Q_OVERFLOW != 0 {
		for _, f := range h.folders {
			for w := range f.users {
				w.mark("", true)
			}
		}
		return
	}
	dir, ok := h.names[wd]
	if !ok {
		return
	}
	f := h.folders[dir]
	for w := range f.users {
		w.mark(dir, false)
	}
	if mask&unix.IN_IGNORED != 0 {
		delete(h.names, wd)
		delete(h.folders, dir)
	}
}
