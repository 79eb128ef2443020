package extension

// ParseVector is parse, for the tests that hold it against the other decoder.
var ParseVector = parse
