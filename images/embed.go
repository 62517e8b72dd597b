// Package images carries the build contexts of the images of pots and lab machines inside the binary.
package images

import "embed"

// Files holds one folder per image, each with its Dockerfile.
//
//go:embed all:*
var Files embed.FS
