//go:build vm

package vm

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// disk is what the machine keeps, as a real one does: what is written to it is in its cache, and on the
// disk for good only after a flush. When the power goes, any part of the cache may be lost, in any order.
// QEMU reaches it by the NBD protocol.
type disk struct {
	file *os.File
	size int64

	mu    sync.Mutex
	cache map[int64][]byte // blocks by number, written since the last flush
}

const (
	block     = 4096
	cacheSize = 32768 // blocks, 128 MiB
)

// newDisk makes a disk that begins as the image. It is gone with this process.
func newDisk(t *testing.T, image string) *disk {
	t.Helper()
	file, err := os.CreateTemp(inMemory(), "maru-vm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	out, err := exec.Command("cp", "--sparse=always", image, file.Name()).CombinedOutput()
	if err := errors.Join(err, os.Remove(file.Name())); err != nil {
		t.Fatalf("copy the image: %v\n%s", err, out)
	}
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return &disk{file: file, size: info.Size(), cache: map[int64][]byte{}}
}

// inMemory gives a folder that is kept in memory, where there is one with room.
func inMemory() string {
	const folder, room = "/dev/shm", 8 << 30
	var fs syscall.Statfs_t
	if err := syscall.Statfs(folder, &fs); err != nil || int64(fs.Bavail)*fs.Bsize < room {
		return os.TempDir()
	}
	return folder
}

func (d *disk) read(p []byte, at int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.file.ReadAt(p, at); err != nil {
		return err
	}
	for part := range blocks(p, at) {
		if cached, ok := d.cache[part.number]; ok {
			copy(part.bytes, cached[part.from:])
		}
	}
	return nil
}

func (d *disk) write(p []byte, at int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for part := range blocks(p, at) {
		cached, ok := d.cache[part.number]
		if !ok {
			cached = make([]byte, block)
			if _, err := d.file.ReadAt(cached, part.number*block); err != nil {
				return err
			}
			d.cache[part.number] = cached
		}
		copy(cached[part.from:], part.bytes)
	}
	if len(d.cache) < cacheSize {
		return nil
	}
	return d.keep(func() bool { return true })
}

// flush brings all that was written onto the disk.
func (d *disk) flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.keep(func() bool { return true })
}

// cut loses a half of what was not flushed, and tells how many blocks.
func (d *disk) cut(random *rand.Rand) (lost, of int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	of = len(d.cache)
	err = d.keep(func() bool {
		kept := random.IntN(2) == 0
		if !kept {
			lost++
		}
		return kept
	})
	return lost, of, err
}

// keep empties the cache onto the disk, but for those blocks that it is told to lose.
func (d *disk) keep(kept func() bool) error {
	numbers := make([]int64, 0, len(d.cache))
	for number := range d.cache {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	for _, number := range numbers {
		if kept() {
			if _, err := d.file.WriteAt(d.cache[number], number*block); err != nil {
				return err
			}
		}
	}
	clear(d.cache)
	return nil
}

// part is what of a piece of memory lies in one block.
type part struct {
	number int64
	from   int64 // in the block
	bytes  []byte
}

func blocks(p []byte, at int64) func(yield func(part) bool) {
	return func(yield func(part) bool) {
		for len(p) > 0 {
			from := at % block
			n := min(int64(len(p)), block-from)
			if !yield(part{at / block, from, p[:n]}) {
				return
			}
			p, at = p[n:], at+n
		}
	}
}

// The NBD protocol, as far as QEMU speaks it to a disk without extras:
// https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
const (
	nbdMagic       = 0x4e42444d41474943 // NBDMAGIC
	nbdOptionMagic = 0x49484156454f5054 // IHAVEOPT
	nbdAnswerMagic = 0x0003e889045565a9
	nbdAskMagic    = 0x25609513
	nbdReplyMagic  = 0x67446698

	nbdNewStyle    = 1 | 2 // fixed, and no zeroes after the handshake
	nbdGo          = 7
	nbdAck         = 1
	nbdInfo        = 3
	nbdUnsupported = 1<<31 | 1
	nbdHasFlush    = 1 | 4

	nbdRead, nbdWrite, nbdDisconnect, nbdFlush = 0, 1, 2, 3
)

// serve answers one QEMU until it is gone.
func (d *disk) serve(conn net.Conn) error {
	defer conn.Close()
	if err := d.greet(conn); err != nil {
		return err
	}
	var ask struct {
		Magic       uint32
		Flags, Kind uint16
		Handle      uint64
		At          uint64
		Length      uint32
	}
	for {
		if err := binary.Read(conn, binary.BigEndian, &ask); err != nil {
			return ended(err)
		}
		if ask.Magic != nbdAskMagic {
			return errors.New("QEMU does not speak NBD")
		}
		var bytes []byte
		if ask.Kind == nbdRead || ask.Kind == nbdWrite {
			bytes = make([]byte, ask.Length)
		}
		var failed error
		switch ask.Kind {
		case nbdRead:
			failed = d.read(bytes, int64(ask.At))
		case nbdWrite:
			if _, err := io.ReadFull(conn, bytes); err != nil {
				return ended(err)
			}
			failed, bytes = d.write(bytes, int64(ask.At)), nil
		case nbdFlush:
			failed = d.flush()
		case nbdDisconnect:
			return nil
		default:
			failed = syscall.EINVAL
		}
		if failed != nil {
			return failed // the machine has lost its disk, and the test ends
		}
		reply := binary.BigEndian.AppendUint32(nil, nbdReplyMagic)
		reply = binary.BigEndian.AppendUint32(reply, 0)
		reply = binary.BigEndian.AppendUint64(reply, ask.Handle)
		if _, err := (&net.Buffers{reply, bytes}).WriteTo(conn); err != nil {
			return ended(err)
		}
	}
}

// greet agrees with QEMU on the disk.
func (d *disk) greet(conn net.Conn) error {
	hello := binary.BigEndian.AppendUint64(nil, nbdMagic)
	hello = binary.BigEndian.AppendUint64(hello, nbdOptionMagic)
	if _, err := conn.Write(binary.BigEndian.AppendUint16(hello, nbdNewStyle)); err != nil {
		return err
	}
	var flags uint32
	if err := binary.Read(conn, binary.BigEndian, &flags); err != nil {
		return err
	}
	for {
		var option struct {
			Magic        uint64
			Kind, Length uint32
		}
		if err := binary.Read(conn, binary.BigEndian, &option); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, conn, int64(option.Length)); err != nil {
			return err
		}
		answer := func(kind uint32, bytes []byte) error {
			head := binary.BigEndian.AppendUint64(nil, nbdAnswerMagic)
			head = binary.BigEndian.AppendUint32(head, option.Kind)
			head = binary.BigEndian.AppendUint32(head, kind)
			head = binary.BigEndian.AppendUint32(head, uint32(len(bytes)))
			_, err := conn.Write(append(head, bytes...))
			return err
		}
		if option.Kind != nbdGo {
			if err := answer(nbdUnsupported, nil); err != nil {
				return err
			}
			continue
		}
		export := binary.BigEndian.AppendUint16(nil, 0)
		export = binary.BigEndian.AppendUint64(export, uint64(d.size))
		export = binary.BigEndian.AppendUint16(export, nbdHasFlush)
		return errors.Join(answer(nbdInfo, export), answer(nbdAck, nil))
	}
}

// ended makes of the end of a connection, which is how the power goes, no error.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}
