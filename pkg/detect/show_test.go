package detect_test

import (
	"fmt"

	"murmuration/pkg/detect"
)

// show writes a result out in full, so that two can be compared although they hold NaN.
func show(res *detect.Result) string { return fmt.Sprintf("%+v", *res) }
