package stream

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"

	"github.com/marucloud/maru"
)

const (
	journalName   = "traffic.journal"
	journalHeader = "maru traffic 1\n"
	// compactBytes is how much a journal may grow before it is written anew; beyond that it may
	// double, so that the cost of a change does not depend on how much there is.
	compactBytes = 1 << 20
	longestLine  = 64 << 20
)

func checksum(data []byte) uint32 { return crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)) }

// journal keeps the traffic state in a file: lines that each hold a part of an update behind its
// checksum. A line that was not written whole ends it; what stood before is good.
type journal struct {
	path string
	f    *os.File
	size int64
	base int64 // size when it was last written anew
}

func openJournal(folder string) (*journal, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, maru.Errorf(maru.Unavailable, "traffic state: %w", err)
	}
	return &journal{path: filepath.Join(folder, journalName)}, nil
}

// load gives the state as one full update. A file that is missing or of another form is an empty one.
func (j *journal) load() (maru.TrafficUpdate, error) {
	f, err := os.Open(j.path)
	if errors.Is(err, os.ErrNotExist) {
		return maru.TrafficUpdate{Full: true}, nil
	}
	if err != nil {
		return maru.TrafficUpdate{}, maru.Errorf(maru.Unavailable, "traffic state: %w", err)
	}
	defer f.Close()
	return readJournal(f), nil
}

func readJournal(r io.Reader) maru.TrafficUpdate {
	whole := maru.TrafficUpdate{Full: true}
	lines := bufio.NewReaderSize(r, 64<<10)
	if head, err := lines.ReadString('\n'); err != nil || head != journalHeader {
		return whole
	}
	at := map[maru.ServiceID]int{}
	for {
		line, err := readLine(lines)
		if err != nil {
			break
		}
		var f frame
		if !unseal(line, &f) {
			break
		}
		for _, s := range f.Services {
			if i, ok := at[s.Service]; ok {
				whole.Services[i] = s
				continue
			}
			at[s.Service] = len(whole.Services)
			whole.Services = append(whole.Services, s)
		}
		for _, id := range f.Removed {
			if i, ok := at[id]; ok {
				last := len(whole.Services) - 1
				whole.Services[i] = whole.Services[last]
				at[whole.Services[i].Service] = i
				whole.Services = whole.Services[:last]
				delete(at, id)
			}
		}
		if len(f.Resolvers) > 0 {
			whole.Resolvers = f.Resolvers
		}
	}
	return whole
}

func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) && len(line) < longestLine {
			continue
		}
		return line, err
	}
}

// seal makes a line: the checksum of the JSON in eight hexadecimal digits, a space, the JSON. Secrets are
// left out.
func seal(w io.Writer, f frame) error {
	for i := range f.Services {
		if f.Services[i].Secrets != nil {
			f.Services = slices.Clone(f.Services)
			for j := range f.Services[i:] {
				f.Services[i+j].Secrets = nil
			}
			break
		}
	}
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%08x %s\n", checksum(data), data)
	return err
}

func unseal(line []byte, f *frame) bool {
	sum, data, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	if !ok || fmt.Sprintf("%08x", checksum(data)) != string(sum) {
		return false
	}
	return json.Unmarshal(data, f) == nil
}

// write puts the whole state into a new file in the place of the old one.
func (j *journal) write(services iter.Seq[maru.ServiceTraffic], rest maru.TrafficUpdate) error {
	j.close()
	f, err := os.OpenFile(j.path+".new", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return maru.Errorf(maru.Unavailable, "traffic state: %w", err)
	}
	w := bufio.NewWriterSize(f, 64<<10)
	_, err = w.WriteString(journalHeader)
	batch := frame{TrafficUpdate: maru.TrafficUpdate{Resolvers: rest.Resolvers}}
	for s := range services {
		batch.Services = append(batch.Services, s)
		if len(batch.Services) == frameServices {
			err = errors.Join(err, seal(w, batch))
			batch = frame{TrafficUpdate: maru.TrafficUpdate{Services: batch.Services[:0]}}
		}
	}
	err = errors.Join(err, seal(w, batch), w.Flush(), f.Sync(), os.Rename(j.path+".new", j.path))
	if err != nil {
		f.Close()
		return maru.Errorf(maru.Unavailable, "traffic state: %w", err)
	}
	j.f = f
	j.size, err = f.Seek(0, io.SeekCurrent)
	j.base = j.size
	return err
}

// append adds a change. It is in the system's hands when append returns, so that the end of this
// process does not lose it; that of the machine ends all that the state speaks of too.
func (j *journal) append(u maru.TrafficUpdate) error {
	var b bytes.Buffer
	u.Certificates, u.Challenges = nil, nil
	for services := u.Services; ; {
		n := min(len(services), frameServices)
		u.Services, services = services[:n], services[n:]
		if err := seal(&b, frame{TrafficUpdate: u}); err != nil {
			return maru.Errorf(maru.Internal, "traffic state: %w", err)
		}
		if len(services) == 0 {
			break
		}
		u = maru.TrafficUpdate{}
	}
	n, err := j.f.Write(b.Bytes())
	j.size += int64(n)
	if err != nil {
		return maru.Errorf(maru.Unavailable, "traffic state: %w", err)
	}
	return nil
}

// full tells whether the journal is to be written anew.
func (j *journal) full() bool { return j.f == nil || j.size > 2*j.base+compactBytes }

func (j *journal) close() {
	if j.f != nil {
		j.f.Close()
		j.f = nil
	}
}
