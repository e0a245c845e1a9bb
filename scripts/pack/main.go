// Command pack compresses programs with zstd for go:embed: pack OUTDIR PROGRAM…. Beside each
// PROGRAM.zst it keeps the program's SHA-256 in PROGRAM.sum, and does nothing when that is as before.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: pack OUTDIR PROGRAM…")
		os.Exit(2)
	}
	for _, program := range os.Args[2:] {
		if err := pack(os.Args[1], program); err != nil {
			fmt.Fprintln(os.Stderr, "pack:", err)
			os.Exit(1)
		}
	}
}

func pack(folder, program string) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	target := filepath.Join(folder, filepath.Base(program))
	digest := sha256.Sum256(content)
	sum := []byte(hex.EncodeToString(digest[:]) + "\n")
	if old, err := os.ReadFile(target + ".sum"); err == nil && bytes.Equal(old, sum) {
		if _, err := os.Stat(target + ".zst"); err == nil {
			return nil
		}
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(8<<20))
	if err != nil {
		return err
	}
	// The sum is written last: it vouches for the compressed file.
	_ = os.Remove(target + ".sum")
	if err := replace(target+".zst", encoder.EncodeAll(content, nil)); err != nil {
		return err
	}
	return replace(target+".sum", sum)
}

func replace(path string, content []byte) error {
	if err := os.WriteFile(path+".new", content, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
