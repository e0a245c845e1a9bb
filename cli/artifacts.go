package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// pieceSize is how much of a file travels in one message, in bytes.
const pieceSize = 256 << 10

func (s *shell) volumeCommand() *cobra.Command {
	var everything, yes bool
	c := &cobra.Command{Use: "volume", Short: "List and remove volumes", Args: cobra.NoArgs}
	list := &cobra.Command{Use: "ls", Short: "List volumes", Args: cobra.NoArgs, RunE: s.onListed(&everything, func(ctx context.Context, call appCall) error {
		response, err := call.Volumes.List(ctx, &maruv1.VolumeServiceListRequest{Scope: call.scope})
		if err != nil {
			return err
		}
		if s.output == "json" {
			return s.printMessage(response)
		}
		t := s.table("VOLUME", "APP", "SIZE", "CREATED", "HELD BY")
		for _, v := range response.Volumes {
			t.row(v.Name, orDash(v.Scope.App), size(v.Bytes), ago(v.Created), orDash(strings.Join(v.Holders, " ")))
		}
		return t.flush()
	})}
	list.Flags().BoolVarP(&everything, "all", "a", false, "of all apps of the environment, as where no app is meant")
	remove := &cobra.Command{Use: "rm VOLUME…", Short: "Remove volumes and what is in them", Args: cobra.MinimumNArgs(1), RunE: s.onApp(func(ctx context.Context, call appCall) error {
		if err := s.confirm(yes, fmt.Sprintf("Remove %s of %s and all that is in it?", strings.Join(call.args, ", "), call.scope.App)); err != nil {
			return err
		}
		response, err := call.Volumes.Remove(ctx, &maruv1.VolumeServiceRemoveRequest{Scope: call.scope, Names: call.args})
		return s.done(response, err, "removed "+strings.Join(call.args, ", "))
	})}
	remove.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask")
	remove.ValidArgsFunction = s.completeKept(func(ctx context.Context, call appCall) (names []string, err error) {
		response, err := call.Volumes.List(ctx, &maruv1.VolumeServiceListRequest{Scope: call.scope})
		for _, v := range response.GetVolumes() {
			names = append(names, v.Name)
		}
		return names, err
	})
	c.AddCommand(list, remove)
	return c
}

func (s *shell) imageCommand() *cobra.Command {
	c := &cobra.Command{Use: "image", Short: "List, pull, load and clean up images", Args: cobra.NoArgs}
	list := &cobra.Command{Use: "ls", Short: "List images", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		connected, err := s.connect()
		if err != nil {
			return err
		}
		response, err := connected.Images.List(c.Context(), &maruv1.ImageServiceListRequest{})
		if err != nil {
			return err
		}
		if s.output == "json" {
			return s.printMessage(response)
		}
		return s.showImages(response.Images)
	}}
	prune := &cobra.Command{Use: "prune", Short: "Remove images that nothing uses and no rollback needs", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		connected, err := s.connect()
		if err != nil {
			return err
		}
		response, err := connected.Images.Prune(c.Context(), &maruv1.PruneRequest{})
		if err != nil {
			return err
		}
		if s.output == "json" {
			return s.printMessage(response)
		}
		var freed int64
		for _, image := range response.Removed {
			freed += image.Bytes
		}
		fmt.Fprintf(s.Stdout, "removed %d images, %s\n", len(response.Removed), size(freed))
		return s.showImages(response.Removed)
	}}
	c.AddCommand(list, s.imagePullCommand(), s.imageLoadCommand(), prune)
	return c
}

func (s *shell) showImages(images []*maruv1.Image) error {
	t := s.table("IMAGE", "NAMES", "PLATFORM", "SIZE", "CREATED")
	for _, image := range images {
		var names []string
		for _, name := range image.Names {
			names = append(names, shortImage(name))
		}
		t.row(shortImage(image.Reference), orDash(strings.Join(names, " ")), image.Platform, size(image.Bytes), ago(image.Created))
	}
	return t.flush()
}

func (s *shell) imagePullCommand() *cobra.Command {
	request := &maruv1.PullRequest{}
	c := &cobra.Command{Use: "pull IMAGE", Short: "Fetch an image from its registry", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		connected, err := s.connect()
		if err != nil {
			return err
		}
		request.Reference = args[0]
		for _, login := range s.registryLogins(maru.App{Services: map[string]maru.Service{"": {Image: args[0]}}}) {
			request.Username, request.Password = login.Username, login.Password
		}
		stream, err := connected.Images.Pull(c.Context(), request)
		if err != nil {
			return err
		}
		defer stream.Close()
		bar := s.transfer("pulling " + args[0])
		var image *maruv1.Image
		for stream.Receive() {
			bar.set(stream.Msg().Done, stream.Msg().Total)
			image = stream.Msg().Image
		}
		bar.done()
		if err := stream.Err(); err != nil {
			return err
		}
		if s.output == "json" {
			return s.printMessage(image)
		}
		fmt.Fprintln(s.Stdout, image.GetReference())
		return nil
	}}
	c.Flags().StringVar(&request.Platform, "platform", "", "such as linux/arm64 (default: the server's)")
	return c
}

func (s *shell) imageLoadCommand() *cobra.Command {
	return &cobra.Command{Use: "load FILE", Short: "Take images from an OCI or docker archive", Args: cobra.ExactArgs(1),
		Long: "Load takes the images in an archive, as 'docker save' and others write it. FILE may be - for standard input.",
		RunE: func(c *cobra.Command, args []string) error {
			connected, err := s.connect()
			if err != nil {
				return err
			}
			from, total := s.Stdin, int64(0)
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return maru.Errorf(maru.Invalid, "load: %w", err)
				}
				defer file.Close()
				if info, err := file.Stat(); err == nil {
					total = info.Size()
				}
				from = file
			}
			stream, err := connected.Images.Load(c.Context())
			if err != nil {
				return err
			}
			bar := s.transfer("loading " + args[0])
			readErr := pieces(from, func(piece []byte) error { return stream.Send(&maruv1.LoadRequest{Data: piece}) }, bar, total)
			bar.done()
			response, err := stream.CloseAndReceive()
			if readErr != nil && !errors.Is(readErr, io.EOF) {
				return readErr
			}
			if err != nil {
				return err
			}
			if s.output == "json" {
				return s.printMessage(response)
			}
			return s.showImages(response.Images)
		}}
}

// pieces sends all of from. io.EOF: the server ended the stream, and tells why at its end.
func pieces(from io.Reader, send func([]byte) error, bar *transfer, total int64) error {
	var done int64
	for {
		piece := make([]byte, pieceSize)
		n, err := io.ReadFull(from, piece)
		if n > 0 {
			if err := send(piece[:n]); err != nil {
				return err
			}
			done += int64(n)
			bar.set(done, total)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return maru.Errorf(maru.Invalid, "read: %w", err)
		}
	}
}

// passphrase is that of a backup: from a variable, or typed unseen.
func (s *shell) passphrase() (string, error) {
	if given := s.Getenv("MARU_PASSPHRASE"); given != "" {
		return given, nil
	}
	if !isTerminal(s.Stdin) {
		return "", misuse{maru.WithHint(errors.New("no passphrase"), "set MARU_PASSPHRASE")}
	}
	given, err := s.readValue("the passphrase", "")
	return string(given), err
}

func (s *shell) backupCommand() *cobra.Command {
	var noVolumes bool
	c := &cobra.Command{Use: "backup FILE", Short: "Write Maru's state and the volumes to one encrypted file", Args: cobra.ExactArgs(1),
		Long: `Backup writes all that Maru keeps and the content of all volumes to one file, encrypted with a passphrase,
while everything runs. FILE may be - for standard output. 'maru restore' brings it up on an empty machine.`,
		Example: "  maru backup /mnt/backup/maru-$(date +%F)\n  MARU_PASSPHRASE=… maru backup - | ssh host 'cat > maru.backup'",
		RunE: func(c *cobra.Command, args []string) (err error) {
			connected, err := s.connect()
			if err != nil {
				return err
			}
			passphrase, err := s.passphrase()
			if err != nil {
				return err
			}
			to := s.Stdout
			if args[0] != "-" {
				file, err := os.OpenFile(args[0]+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
				if err != nil {
					return maru.Errorf(maru.Invalid, "backup: %w", err)
				}
				defer func() { err = errors.Join(err, finishFile(file, args[0], err)) }()
				to = file
			}
			stream, err := connected.System.Backup(c.Context(), &maruv1.BackupRequest{Passphrase: passphrase, NoVolumes: noVolumes})
			if err != nil {
				return err
			}
			defer stream.Close()
			var written int64
			for stream.Receive() {
				n, err := to.Write(stream.Msg().Data)
				if err != nil {
					return maru.Errorf(maru.Invalid, "backup: %w", err)
				}
				written += int64(n)
			}
			if err := stream.Err(); err != nil {
				return err
			}
			fmt.Fprintf(s.Stderr, "wrote %s\n", size(written))
			return nil
		}}
	c.Flags().BoolVar(&noVolumes, "no-volumes", false, "leave out the volumes")
	return c
}

// finishFile gives a complete file its name, durably, and removes an incomplete one.
func finishFile(file *os.File, name string, failed error) error {
	if failed != nil {
		return errors.Join(file.Close(), os.Remove(file.Name()))
	}
	return errors.Join(file.Sync(), file.Close(), os.Rename(file.Name(), name))
}

func (s *shell) restoreCommand() *cobra.Command {
	return &cobra.Command{Use: "restore FILE", Short: "Bring up a backup on a machine without apps", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			connected, err := s.connect()
			if err != nil {
				return err
			}
			from, total := s.Stdin, int64(0)
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return maru.Errorf(maru.Invalid, "restore: %w", err)
				}
				defer file.Close()
				if info, err := file.Stat(); err == nil {
					total = info.Size()
				}
				from = file
			}
			passphrase, err := s.passphrase()
			if err != nil {
				return err
			}
			stream, err := connected.System.Restore(c.Context())
			if err != nil {
				return err
			}
			bar := s.transfer("restoring")
			first := &maruv1.RestoreRequest{Passphrase: passphrase}
			sendErr := stream.Send(first)
			if sendErr == nil {
				sendErr = pieces(from, func(piece []byte) error { return stream.Send(&maruv1.RestoreRequest{Data: piece}) }, bar, total)
			}
			bar.done()
			response, err := stream.CloseAndReceive()
			if sendErr != nil && !errors.Is(sendErr, io.EOF) {
				return sendErr
			}
			if err != nil {
				return err
			}
			if s.output == "json" {
				return s.printMessage(response)
			}
			fmt.Fprintf(s.Stdout, "restored %d apps and %d volumes\n", len(response.Apps), len(response.Volumes))
			return nil
		}}
}
