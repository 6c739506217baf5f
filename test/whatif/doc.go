// Package whatif holds what is predicted of a policy against what becomes of it.
//
// A case is a small mesh of real proxies on loopback, with policies and traffic
// drawn from a seed: clients with a sidecar, by a service, by a pod's address or
// past their sidecar, clients without one, and an address outside; servers with
// and without a sidecar. What the proxies report goes into a real book of facts,
// [hasp/truth.WhatIf] is asked about a candidate, and then the candidate is
// applied. Of every connection it must have known whether it ends, and of every
// client whether and how it gets through afterwards.
//
// Nothing redirects on loopback, so that a listener of its own stands for each
// place that a workload calls, and a plaintext connection has two traces.
package whatif
