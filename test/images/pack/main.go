// Command pack puts the images that are missing in the cache there: pack FOLDER.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/marucloud/maru/test/images"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: pack FOLDER")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, cache string) error {
	for _, recipe := range images.Missing(cache, slices.Concat(images.Servers, images.Toolchains)) {
		began := time.Now()
		fmt.Fprintf(os.Stderr, "packing %s\n", recipe.Reference())
		if err := recipe.Pack(ctx, cache); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "packed %s in %s\n", recipe.Reference(), time.Since(began).Round(time.Second))
	}
	return nil
}
