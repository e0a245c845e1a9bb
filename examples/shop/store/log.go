package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// A record is a header of 8 bytes, the payload's length and its checksum, and the payload: a commit as
// JSON.
const headerSize = 8

// maxRecord bounds a record, so that a damaged length does not ask for all the memory there is.
const maxRecord = 16 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// commit is one atomic change.
type commit struct {
	Revision int64    `json:"rev"`
	Changes  []change `json:"changes"`
}

// change sets a key, or with a nil Value deletes it.
type change struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value,omitempty"`
}

func encode(c commit) ([]byte, error) {
	payload, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	record := make([]byte, headerSize, headerSize+len(payload))
	binary.LittleEndian.PutUint32(record, uint32(len(payload)))
	binary.LittleEndian.PutUint32(record[4:], crc32.Checksum(payload, castagnoli))
	return append(record, payload...), nil
}

var errTorn = errors.New("the record is not whole")

// decode reads the next record: io.EOF at the end, errTorn for one that was not written whole.
func decode(r io.Reader) (commit, int64, error) {
	var c commit
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errTorn
		}
		return c, 0, err
	}
	length := binary.LittleEndian.Uint32(header[:])
	if length == 0 || length > maxRecord {
		return c, 0, errTorn
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(r, payload); err != nil {
		return c, 0, errTorn
	}
	if crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(header[4:]) {
		return c, 0, errTorn
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return c, 0, errTorn
	}
	return c, headerSize + int64(length), nil
}

// journal is the file of all commits since it was last written anew.
type journal struct {
	path string
	file *os.File
	size int64
}

// openJournal gives each commit of the file to apply. What a power cut left unfinished at its end was
// acknowledged to nobody, and is cut off.
func openJournal(dir string, apply func(commit)) (*journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "journal")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	j := &journal{path: path, file: file}
	if err := j.replay(apply); err != nil {
		file.Close()
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return j, syncDir(dir)
}

func (j *journal) replay(apply func(commit)) error {
	r := bufio.NewReaderSize(j.file, 1<<20)
	for {
		c, n, err := decode(r)
		switch {
		case err == nil:
			apply(c)
			j.size += n
			continue
		case !errors.Is(err, io.EOF) && !errors.Is(err, errTorn):
			return err
		}
		if err := j.file.Truncate(j.size); err != nil {
			return err
		}
		_, err = j.file.Seek(j.size, io.SeekStart)
		return err
	}
}

// append adds records and returns when they are on the disk.
func (j *journal) append(records []byte) error {
	if _, err := j.file.Write(records); err != nil {
		return err
	}
	j.size += int64(len(records))
	return j.file.Sync()
}

// rewrite puts what is live into a new file, which takes the old one's place whole or not at all.
func (j *journal) rewrite(live func(write func(commit) error) error) error {
	next := j.path + ".new"
	file, err := os.OpenFile(next, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	var size int64
	w := bufio.NewWriterSize(file, 1<<20)
	err = live(func(c commit) error {
		record, err := encode(c)
		if err != nil {
			return err
		}
		size += int64(len(record))
		_, err = w.Write(record)
		return err
	})
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(next, j.path)
	}
	if err != nil {
		return errors.Join(err, file.Close(), os.Remove(next))
	}
	old := j.file
	j.file, j.size = file, size
	return errors.Join(old.Close(), syncDir(filepath.Dir(j.path)))
}

func (j *journal) close() error { return j.file.Close() }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
