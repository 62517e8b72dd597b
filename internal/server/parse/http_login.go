package parse

import (
	"bytes"

	"github.com/kokkuri/kokkuri/internal/event"
)

// maxLoginPath bounds the path of a login form, in bytes.
const maxLoginPath = 256

// shippedLogin says what a request at the login forms of widespread software was, wherever below the root it is
// installed. Where a failure is answered like a success, or like other requests at that path, neither is read.
//
//	wp-login.php                 200 shows the form again; a success is 302 (WordPress)
//	xmlrpc.php                   200 whatever happened (WordPress): only what a filter refused is a failure
//	user/login, admin/login/     200 shows the form again; a success is 302 or 303 (Drupal; Django)
//	users/sign_in                200 or 422 shows the form again; a success is 302 or 303 (Rails with Devise, such as GitLab)
//	the others                   401 and 403, as APIs answer
//
// That a login form answered as it does to a success proves no login: whoever sends another request there may get the
// same answer.
func shippedLogin(method, raw []byte, status int) event.Kind {
	if string(method) != "POST" {
		return ""
	}
	var buffer [maxLoginPath]byte
	path := normalPath(buffer[:0], raw)
	if i := bytes.Index(path, []byte(".php/")); i >= 0 { // PHP takes the rest for PATH_INFO
		path = path[:i+len(".php")]
	}
	for len(path) > 1 && path[len(path)-1] == '/' {
		path = path[:len(path)-1]
	}
	i := bytes.LastIndexByte(path, '/')
	if i < 0 {
		return ""
	}
	name, folder := path[i+1:], path[:i]
	form, ok := shippedForm(name, folder[bytes.LastIndexByte(folder, '/')+1:])
	if !ok {
		return ""
	}
	switch {
	case status == 401 || status == 403, status == 200 && form.again, status == 422 && form.unprocessable:
		return event.AuthFailed
	case (status == 302 || status == 303) && form.again:
		return event.AuthOK
	case status == 404:
		return "" // there is no such form
	}
	return event.Context
}

// loginForm says how a form answers beside 401 and 403.
type loginForm struct {
	again         bool // 200 shows it again after a failure, and a success moves on
	unprocessable bool // 422 does so too
}

// shippedForm finds a form by the last two parts of its path.
func shippedForm(name, folder []byte) (f loginForm, ok bool) {
	switch string(name) {
	case "wp-login.php":
		return loginForm{again: true}, true
	case "login":
		return loginForm{again: string(folder) == "user" || string(folder) == "admin"}, true
	case "sign_in":
		return loginForm{again: true, unprocessable: true}, true
	case "xmlrpc.php", "login.php", "signin", "logon", "authenticate", "j_security_check", "j_spring_security_check", "auth", "session", "sessions",
		"token", "logincheck":
		return loginForm{}, true
	case "index.php":
		return loginForm{}, string(folder) == "administrator" || string(folder) == "phpmyadmin"
	}
	return loginForm{}, false
}

// normalPath appends a path to dst as servers understand it: percent-decoded once, with slashes merged and dots
// resolved, as far as dst's capacity goes.
func normalPath(dst, raw []byte) []byte {
	d := decoder{b: raw, once: true}
	for len(dst) < cap(dst) {
		c, ok := d.next()
		if ok && c != '/' {
			dst = append(dst, c)
			continue
		}
		// A segment is whole.
		start := bytes.LastIndexByte(dst, '/') + 1
		switch segment := dst[start:]; string(segment) {
		case ".":
			dst = dst[:start]
		case "..":
			dst = dst[:max(bytes.LastIndexByte(dst[:max(start-1, 0)], '/')+1, min(start, 1))]
		}
		if !ok {
			return dst
		}
		if len(dst) == 0 || dst[len(dst)-1] != '/' {
			dst = append(dst, '/')
		}
	}
	return dst
}
