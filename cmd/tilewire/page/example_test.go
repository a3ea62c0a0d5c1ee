package page_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/tilewire/tilewire/cmd/tilewire/page"
)

// Any HTTP server can serve the page; it needs its media type and nothing else.
func Example() {
	w := httptest.NewRecorder()
	http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", page.ContentType)
		w.Write(page.HTML)
	}).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))

	fmt.Println(w.Code, w.Header().Get("Content-Type"), w.Body.Len() < 20_000)
	// Output: 200 text/html; charset=utf-8 true
}
