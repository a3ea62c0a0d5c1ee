package page

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// maxBytes bounds the page: it travels uncompressed through a tile's reply ring.
const maxBytes = 20_000

func TestSizeAndEncoding(t *testing.T) {
	if len(HTML) >= maxBytes {
		t.Errorf("the page has %d bytes, the bound is %d", len(HTML), maxBytes)
	}
	if !utf8.Valid(HTML) || bytes.ContainsRune(HTML, '\r') {
		t.Error("the page is not plain UTF-8 with LF")
	}
	if !bytes.HasPrefix(HTML, []byte("<!doctype html>\n<html lang=")) {
		t.Error("the page does not begin with its doctype and language")
	}
}

// The policy allows the inline style and script by hash: an edit of either needs the new hash in the page.
func TestPolicyHashes(t *testing.T) {
	policy := find(t, `http-equiv="Content-Security-Policy" content="([^"]+)"`)
	for tag, directive := range map[string]string{"style": "style-src", "script": "script-src"} {
		sum := sha256.Sum256([]byte(find(t, `(?s)<`+tag+`(?: type="module")?>(.*?)</`+tag+`>`)))
		want := directive + " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
		if !strings.Contains(policy, want) {
			t.Errorf("the policy in index.html lacks the hash of its <%s>; it must say: %s", tag, want)
		}
	}
	for _, want := range []string{"default-src 'none'", "connect-src 'self'", "base-uri 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy lacks %q", want)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("the policy allows something unsafe: %s", policy)
	}
}

// What would let a line of the stream become markup, or make the page need a network.
func TestForbidden(t *testing.T) {
	for _, s := range []string{
		"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc",
		"@import", "@font-face", "src=", "style=", " onclick=", " onload=", "https:", "localStorage",
	} {
		if i := bytes.Index(HTML, []byte(s)); i >= 0 {
			t.Errorf("the page contains %q: ...%s", s, HTML[max(0, i-40):min(len(HTML), i+40)])
		}
	}
	for _, m := range regexp.MustCompile(`http://[^'"\s]+`).FindAllString(string(HTML), -1) {
		if m != "http://www.w3.org/2000/svg" { // a namespace, never fetched
			t.Errorf("the page names an outside resource: %s", m)
		}
	}
}

// Every id that the script looks up exists once, every button has a type and a name.
func TestElements(t *testing.T) {
	html := string(HTML)
	for _, m := range regexp.MustCompile(`(?:\$|say)\('(\w+)'`).FindAllStringSubmatch(html, -1) {
		if n := strings.Count(html, `id="`+m[1]+`"`); n != 1 {
			t.Errorf("the script uses the id %q, the page has it %d times", m[1], n)
		}
	}
	for _, m := range regexp.MustCompile(`<button[^>]*>`).FindAllString(html, -1) {
		if !strings.Contains(m, `type="button"`) || !strings.Contains(m, `id="`) {
			t.Errorf("a button without type or id: %s", m)
		}
	}
	for _, want := range []string{`role="log"`, `role="status"`, `aria-live="off"`, "prefers-color-scheme: dark", "viewport"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

// The close codes of the server have a meaning in the page.
func TestCloseCodes(t *testing.T) {
	table := find(t, `(?s)const CODES = \{(.*?)\};`)
	for _, code := range []string{
		"1000", "1001", "1002", "1003", "1006", "1007", "1008", "1009", "1011", "1012", "1013",
		"4001", "4002", "4003", "4004", "4500", "4501", "4502",
	} {
		if !strings.Contains(table, code+": '") {
			t.Errorf("the page does not know close code %s", code)
		}
	}
}

func find(t *testing.T, expr string) string {
	t.Helper()
	m := regexp.MustCompile(expr).FindSubmatch(HTML)
	if m == nil {
		t.Fatalf("the page has no match for %s", expr)
	}
	return string(m[1])
}
