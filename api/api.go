// Package api knows the kinds users write: decodes them strictly, fills in
// defaults, validates them with messages that name the field and the way out,
// and carries their CustomResourceDefinitions. It decides nothing about traffic.
//
// Files go through [Decode], what the Kubernetes API hands out through
// [FromUnstructured], and both through [Validate]; mesh-wide settings through
// [ParseMeshConfig]. [CRDs] is what an API server has to serve.
package api
