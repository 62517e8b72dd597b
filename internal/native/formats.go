package native

import "slices"

// Formats are all that are known.
func Formats() []Format {
	return slices.Concat(
		mysqlFormats(),
		postgresFormats(),
		httpFormats(),
		ftpFormats(),
	)
}
