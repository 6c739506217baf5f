# The words of this project; `make help` lists them.
GO ?= go
BIN := bin
# Programs that must run in any namespace, with any user: static, no cgo.
export CGO_ENABLED ?= 0

.PHONY: help build demo test gen fuzz bench lint clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

build: ## bin/hasp, bin/hasp-proxy and the demo's programs
	@mkdir -p $(BIN)
	$(GO) build -trimpath -ldflags "-s -w" -o $(BIN)/ ./cmd/...
	cd demo && $(GO) build -trimpath -ldflags "-s -w" -o ../$(BIN)/ ./cmd/...
	@ln -sf hasp $(BIN)/oc && ln -sf hasp $(BIN)/kubectl

demo: build ## the lab, on this machine (ARGS=--exit ends after the walk)
	$(BIN)/hasp demo $(ARGS)
