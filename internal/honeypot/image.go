package honeypot

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"github.com/kokkuri/kokkuri/images"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

// BuildImage builds BuiltinImage, and what it is built on, from what is in this binary, where they are missing or
// old.
func BuildImage(ctx context.Context, d *engine.Docker, progress io.Writer) error {
	return BuildSuite(ctx, d, engine.DefaultSuite, progress)
}

// BuildSuite builds the image of pots of one of Debian's suites.
func BuildSuite(ctx context.Context, d *engine.Docker, suite string, progress io.Writer) error {
	base, err := d.EnsureSuite(ctx, suite, progress)
	if err != nil {
		return err
	}
	for _, layer := range []struct{ tag, folder string }{{machineImage, "ssh"}, {BuiltinImage, "pot"}} {
		files, err := fs.Sub(images.Files, layer.folder)
		if err != nil {
			return fmt.Errorf("image %s: %w", layer.tag, err)
		}
		tag := tagOf(layer.tag, suite)
		if err := d.BuildImage(ctx, tag, files, map[string]string{"BASE": base}, progress); err != nil {
			return err
		}
		base = tag
	}
	return nil
}

// BuildDoor builds the image of the doors of one of Debian's suites from what is in this binary, where it is missing or old.
func BuildDoor(ctx context.Context, d *engine.Docker, suite string, progress io.Writer) error {
	base, err := d.EnsureSuite(ctx, suite, progress)
	if err != nil {
		return err
	}
	files, err := fs.Sub(images.Files, "door")
	if err != nil {
		return fmt.Errorf("image %s: %w", DoorImage, err)
	}
	return d.BuildImage(ctx, tagOf(DoorImage, suite), files, map[string]string{"BASE": base}, progress)
}

// tagOf names the image of a suite; that of the default one has no tag of its own.
func tagOf(image, suite string) string {
	if suite == engine.DefaultSuite {
		return image
	}
	return image + ":" + suite
}

// ImageOf names the image of pots of one of Debian's suites.
func ImageOf(suite string) string { return tagOf(BuiltinImage, suite) }
