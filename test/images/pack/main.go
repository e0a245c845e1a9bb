// Command pack puts the images that are missing in the cache there: pack [-toolchains] FOLDER. Those with the
// toolchains are large, and packed only when they are asked for.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/marucloud/maru/test/images"
)

func main() {
	toolchains := flag.Bool("toolchains", false, "also the images with toolchains for jobs")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: pack [-toolchains] FOLDER")
		os.Exit(2)
	}
	recipes := images.Servers
	if *toolchains {
		recipes = append(append([]images.Recipe{}, recipes...), images.Toolchains...)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, flag.Arg(0), recipes); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, cache string, recipes []images.Recipe) error {
	for _, recipe := range images.Missing(cache, recipes) {
		began := time.Now()
		fmt.Fprintf(os.Stderr, "packing %s\n", recipe.Reference())
		if err := recipe.Pack(ctx, cache); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "packed %s in %s\n", recipe.Reference(), time.Since(began).Round(time.Second))
	}
	return nil
}
