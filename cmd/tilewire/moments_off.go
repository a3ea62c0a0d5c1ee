//go:build !explore

package main

// dieAtMoment has the exploring build's network tiles die by themselves. Here it is nothing.
func dieAtMoment() {}
