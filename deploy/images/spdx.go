package main

// The part of SPDX 2.3's JSON (spdx.github.io/spdx-spec/v2.3) that is used here.

type spdxDocument struct {
	Version       string             `json:"spdxVersion"`
	License       string             `json:"dataLicense"`
	ID            string             `json:"SPDXID"`
	Name          string             `json:"name"`
	Namespace     string             `json:"documentNamespace"`
	Creation      spdxCreation       `json:"creationInfo"`
	Packages      []spdxPackage      `json:"packages"`
	Files         []spdxFile         `json:"files"`
	Relationships []spdxRelationship `json:"relationships"`
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	ID          string         `json:"SPDXID"`
	Name        string         `json:"name"`
	Version     string         `json:"versionInfo,omitempty"`
	Download    string         `json:"downloadLocation"`
	Analyzed    bool           `json:"filesAnalyzed"`
	Verify      *spdxVerify    `json:"packageVerificationCode,omitempty"` // with filesAnalyzed
	License     string         `json:"licenseConcluded"`
	Declared    string         `json:"licenseDeclared"`
	Copyright   string         `json:"copyrightText"`
	Purpose     string         `json:"primaryPackagePurpose,omitempty"`
	Comment     string         `json:"comment,omitempty"`
	ExternalRef []spdxExternal `json:"externalRefs,omitempty"`
}

// spdxVerify is one hash of all files of a package but some.
type spdxVerify struct {
	Value    string   `json:"packageVerificationCodeValue"`
	Excluded []string `json:"packageVerificationCodeExcludedFiles"`
}

type spdxExternal struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxFile struct {
	ID        string         `json:"SPDXID"`
	Name      string         `json:"fileName"`
	Checksums []spdxChecksum `json:"checksums"`
	License   string         `json:"licenseConcluded"`
	Copyright string         `json:"copyrightText"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxRelationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

const noAssertion = "NOASSERTION"
