package proxyproto

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

func at(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

// TestRead reads headers as other programs write them, and refuses what may be read in two ways.
func TestRead(t *testing.T) {
	v2 := func(rest string) string {
		data, err := hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return signature + string(data)
	}
	v4 := Header{at("192.0.2.7:56324"), at("198.51.100.1:443")}
	v6 := Header{at("[2001:db8::7]:56324"), at("[2001:db8::1]:443")}
	const four = "c0000207 c6336401 dc04 01bb"
	const six = "20010db8000000000000000000000007 20010db8000000000000000000000001 dc04 01bb"
	for name, c := range map[string]struct {
		text string
		want Header
		bad  bool
	}{
		"1, IPv4":             {"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", v4, false},
		"1, IPv6":             {"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n", v6, false},
		"1, longest":          {"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 65535 65535\r\n", Header{at("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"), at("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535")}, false},
		"1, unknown":          {"PROXY UNKNOWN\r\n", Header{}, false},
		"1, unknown, more":    {"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", Header{}, false},
		"1, mapped":           {"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 56324 443\r\n", Header{at("192.0.2.7:56324"), v6.Destination}, false},
		"1, other family":     {"PROXY TCP4 2001:db8::7 2001:db8::1 56324 443\r\n", Header{}, true},
		"1, no family":        {"PROXY UDP4 192.0.2.7 198.51.100.1 56324 443\r\n", Header{}, true},
		"1, leading zero":     {"PROXY TCP4 192.0.2.7 198.51.100.1 056324 443\r\n", Header{}, true},
		"1, octal":            {"PROXY TCP4 0300.0.2.7 198.51.100.1 56324 443\r\n", Header{}, true},
		"1, large port":       {"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n", Header{}, true},
		"1, two spaces":       {"PROXY TCP4  192.0.2.7 198.51.100.1 56324 443\r\n", Header{}, true},
		"1, zone":             {"PROXY TCP6 fe80::1%eth0 2001:db8::1 56324 443\r\n", Header{}, true},
		"1, bare line feed":   {"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\n", Header{}, true},
		"1, no end":           {"PROXY " + strings.Repeat("x", 200), Header{}, true},
		"1, cut":              {"PROXY TCP4 192.0.2.7", Header{}, true},
		"2, IPv4":             {v2("21 11 000c " + four), v4, false},
		"2, IPv6":             {v2("21 21 0024 " + six), v6, false},
		"2, with more":        {v2("21 11 0014 " + four + " 04 0005 0102030405"), v4, false},
		"2, local":            {v2("20 00 0000"), Header{}, false},
		"2, local, more":      {v2("20 11 000c " + four), Header{}, false},
		"2, unix":             {v2("21 31 0002 0000"), Header{}, false},
		"2, UDP":              {v2("21 12 000c " + four), Header{}, false},
		"2, too short":        {v2("21 11 000b c0000207 c6336401 dc04 01"), Header{}, true},
		"2, cut":              {v2("21 11 000c c0000207"), Header{}, true},
		"2, other version":    {v2("31 11 000c " + four), Header{}, true},
		"2, other command":    {v2("22 11 000c " + four), Header{}, true},
		"2, large":            {v2("21 11 ffff") + strings.Repeat("x", 65535), Header{}, true},
		"HTTP":                {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Header{}, true},
		"nothing":             {"", Header{}, true},
		"1, in small letters": {"proxy TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", Header{}, true},
	} {
		for _, slow := range []bool{false, true} {
			text := c.text
			if !c.bad {
				text += "behind"
			}
			under := strings.NewReader(text)
			var r io.Reader = under
			if slow {
				r = iotest.OneByteReader(under)
			}
			got, err := Read(r)
			if (err != nil) != c.bad || got != c.want {
				t.Errorf("%s: %+v %v", name, got, err)
			}
			if err == nil && under.Len() != len("behind") {
				t.Errorf("%s: %d bytes are left", name, under.Len())
			}
		}
	}
	if _, err := Read(strings.NewReader("GET / HTTP/1.1\r\n")); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
}

// FuzzRead: whatever comes, no more than a header is read, and what was read reads the same when it is written.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET", "PROXY UNKNOWN\r\n", "PROXY TCP6 ::1 ::2 1 2\r\n",
		signature + "\x21\x11\x00\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x00\x01\x00\x02rest", signature + "\x20\x00\x00\x00", signature,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		under := bytes.NewReader(data)
		h, err := Read(under)
		if read := len(data) - under.Len(); read > len(signature)+4+longest2 {
			t.Fatalf("%d bytes were read", read)
		}
		if err != nil {
			if h != (Header{}) {
				t.Fatalf("%+v with %v", h, err)
			}
			return
		}
		if h.Source.IsValid() != h.Destination.IsValid() {
			t.Fatalf("%+v is half a header", h)
		}
		for version := 1; version <= 2; version++ {
			again, err := Read(bytes.NewReader(h.Append(nil, version)))
			if err != nil || again != h {
				t.Fatalf("version %d: %+v is read as %+v, %v", version, h, again, err)
			}
		}
	})
}

// TestOnlyTrustedAreBelieved: what another one says is not a header.
func TestOnlyTrustedAreBelieved(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		trusted, says, from, reads string
		fails                      bool
	}{
		{"127.0.0.0/8", "PROXY TCP4 192.0.2.7 198.51.100.1 5 443\r\nhello", "192.0.2.7:5", "hello", false},
		{"10.0.0.0/8", "PROXY TCP4 192.0.2.7 198.51.100.1 5 443\r\nhello", "", "PROXY TCP4 192.0.2.7 198.51.100.1 5 443\r\nhello", false},
		{"127.0.0.0/8", "PROXY UNKNOWN\r\nhello", "", "hello", false},
		{"127.0.0.0/8", "GET / HTTP/1.1\r\n\r\n", "", "", true},
		{"127.0.0.0/8", "", "", "", true},
	} {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(client, c.says); err != nil {
			t.Fatal(err)
		}
		client.(*net.TCPConn).CloseWrite()
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		told, err := Trusted{netip.MustParsePrefix(c.trusted)}.Accept(accepted)
		if (err != nil) != c.fails {
			t.Errorf("%+v: %v", c, err)
		}
		if err == nil {
			from := c.from
			if from == "" {
				from = client.LocalAddr().String()
			}
			if text, _ := io.ReadAll(told); string(text) != c.reads || told.RemoteAddr().String() != from {
				t.Errorf("%q from %s, want %q from %s", text, told.RemoteAddr(), c.reads, from)
			}
		}
		client.Close()
		accepted.Close()
	}
}
