package logs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// A compressed segment is in zstd's seekable format: frames of frameSize bytes each, uncompressed,
// but for the last, then a skippable frame that lists their sizes. Any zstd program reads it.
const (
	frameSize      = 64 << 10
	skippableMagic = 0x184D2A5E
	seekableMagic  = 0x8F92EAB1
	footerSize     = 9
	maxFrames      = 1 << 20
)

var encoder = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(frameSize), zstd.WithLowerEncoderMem(true))
})

var decoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(frameSize), zstd.WithDecoderLowmem(true))
})

// compress writes all of r to w.
func compress(w io.Writer, r io.Reader) error {
	enc, err := encoder()
	if err != nil {
		return err
	}
	var table, out []byte
	frames := 0
	for in := make([]byte, frameSize); ; {
		n, err := io.ReadFull(r, in)
		if n > 0 {
			out = enc.EncodeAll(in[:n], out[:0])
			if _, err := w.Write(out); err != nil {
				return err
			}
			table = binary.LittleEndian.AppendUint32(table, uint32(len(out)))
			table = binary.LittleEndian.AppendUint32(table, uint32(n))
			frames++
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	head := binary.LittleEndian.AppendUint32(nil, skippableMagic)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(table)+footerSize))
	foot := binary.LittleEndian.AppendUint32(nil, uint32(frames))
	foot = append(foot, 0) // no checksums in the table: each frame has its own
	foot = binary.LittleEndian.AppendUint32(foot, seekableMagic)
	for _, b := range [][]byte{head, table, foot} {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// compressed reads a compressed segment at any place.
type compressed struct {
	file   io.ReaderAt
	closer io.Closer
	starts []int64 // of the frames in file, and of what follows the last
	size   int64   // uncompressed
	frame  int     // the one in plain; -1: none
	plain  []byte
}

func openCompressed(f *os.File) (*compressed, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	c, err := newCompressed(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	c.closer = f
	return c, nil
}

var errNotSeekable = errors.New("not a compressed log segment")

func newCompressed(r io.ReaderAt, fileSize int64) (*compressed, error) {
	if fileSize < 8+footerSize {
		return nil, errNotSeekable
	}
	foot := make([]byte, footerSize)
	if _, err := r.ReadAt(foot, fileSize-footerSize); err != nil {
		return nil, err
	}
	frames := int64(binary.LittleEndian.Uint32(foot))
	tableSize := 8*frames + footerSize
	if foot[4] != 0 || binary.LittleEndian.Uint32(foot[5:]) != seekableMagic || frames > maxFrames || tableSize+8 > fileSize {
		return nil, errNotSeekable
	}
	table := make([]byte, 8+8*frames)
	start := fileSize - tableSize - 8
	if _, err := r.ReadAt(table, start); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(table) != skippableMagic || int64(binary.LittleEndian.Uint32(table[4:])) != tableSize {
		return nil, errNotSeekable
	}
	c := &compressed{file: r, starts: make([]int64, 1, frames+1), frame: -1}
	for i := range frames {
		packed, plain := binary.LittleEndian.Uint32(table[8+8*i:]), binary.LittleEndian.Uint32(table[12+8*i:])
		if plain != frameSize && (i < frames-1 || plain == 0 || plain > frameSize) {
			return nil, errNotSeekable
		}
		c.starts = append(c.starts, c.starts[i]+int64(packed))
		c.size += int64(plain)
	}
	if c.starts[frames] != start {
		return nil, errNotSeekable
	}
	return c, nil
}

func (c *compressed) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) && off < c.size {
		if err := c.load(int(off / frameSize)); err != nil {
			return n, err
		}
		k := copy(p[n:], c.plain[off%frameSize:])
		n += k
		off += int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (c *compressed) load(frame int) error {
	if frame == c.frame {
		return nil
	}
	dec, err := decoder()
	if err != nil {
		return err
	}
	packed := make([]byte, c.starts[frame+1]-c.starts[frame])
	if _, err := c.file.ReadAt(packed, c.starts[frame]); err != nil {
		return err
	}
	c.frame = -1
	c.plain, err = dec.DecodeAll(packed, c.plain[:0])
	if err != nil {
		return err
	}
	if want := min(c.size-int64(frame)*frameSize, frameSize); int64(len(c.plain)) != want {
		return errNotSeekable
	}
	c.frame = frame
	return nil
}

func (c *compressed) Size() (int64, error) { return c.size, nil }

func (c *compressed) Close() error { return c.closer.Close() }
