//go:build race

package wksp

const raceBuild = true
