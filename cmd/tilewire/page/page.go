package page

import _ "embed"

// ContentType is the media type that HTML is served with.
const ContentType = "text/html; charset=utf-8"

// HTML is the whole page: UTF-8, under 20,000 bytes, with its style, script and icon inside.
// Whoever serves it stages or aliases these bytes; nobody may write to them.
//
//go:embed index.html
var HTML []byte
