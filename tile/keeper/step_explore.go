//go:build explore

package keeper

// OnStep is called at each moment, with its name; nil lets the code run through.
var OnStep func(moment string)

func step(moment string) {
	if OnStep != nil {
		OnStep(moment)
	}
}
