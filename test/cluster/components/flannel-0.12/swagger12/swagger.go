// Package swagger stands for a module that is gone. client-go of 2017 names one type of it, in a call that flannel does not make.
package swagger

// ApiDeclaration is that type.
type ApiDeclaration struct{}
