package detect

import (
	"encoding/binary"
	"hash/crc32"
)

// WithChecksum appends a snapshot's checksum.
func WithChecksum(body []byte) []byte {
	return binary.BigEndian.AppendUint32(append([]byte(nil), body...), crc32.ChecksumIEEE(body))
}
