package labtest

import "flag"

// Parallel lets n tests run at once, unless -parallel says how many: most of their time tests of the rig wait for an
// answer that does not come. For TestMain, before the tests run.
func Parallel(n string) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return
	}
	if err := flag.Set("test.parallel", n); err != nil {
		panic(err) // no number
	}
}
