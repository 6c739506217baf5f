# The words of this project; `make help` lists them.
GO ?= go
BIN := bin
# Static programs, which run in any namespace as any user. Tests and vet use the
# same settings, so that nothing large is compiled twice.
export CGO_ENABLED := 0
export GOFLAGS := $(shell $(GO) env GOFLAGS) -trimpath
# kubectl says the version of the library it is.
KUBE := $(shell sed -n 's|^\tk8s.io/kubectl v0\.||p' go.mod)
VERSION := k8s.io/component-base/version
BUILD := $(GO) build -ldflags "-s -w -X $(VERSION).gitVersion=v1.$(KUBE) \
	-X $(VERSION).gitMajor=1 -X $(VERSION).gitMinor=$(firstword $(subst ., ,$(KUBE)))"

# The images' tag is the version that the chart asks for.
TAG ?= $(shell sed -n 's/^appVersion: *"*\([^"]*\)"*$$/\1/p' deploy/hasp/Chart.yaml)

# The Kubernetes of the tests, a module of its own.
CLUSTER := test/kube/cluster

.PHONY: help build images demo test deps unit ladder kube-cluster kube test-kube lint golden gen fuzz proof bench bench-go scale memory clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# grpcnotrace leaves out gRPC's pages about its calls, which nobody serves here,
# and with them HTML templates: a sixth of the proxy.
build: ## bin/hasp, bin/hasp-proxy and the demo's programs
	@mkdir -p $(BIN)
	$(BUILD) -o $(BIN)/ ./cmd/hasp ./cmd/hasp-cni
	$(BUILD) -tags grpcnotrace -o $(BIN)/ ./cmd/hasp-proxy
	cd demo && $(BUILD) -o ../$(BIN)/ ./cmd/...
	@ln -sf hasp $(BIN)/oc && ln -sf hasp $(BIN)/kubectl

images: build ## container images into bin/images (ARGS="--push localhost:5000" pushes them too)
	cd deploy/images && $(BUILD) -o ../../$(BIN)/images/ ./after-stdin && \
	$(GO) run . --bin ../../$(BIN) --out ../../$(BIN)/images --tag $(TAG) --revision "$$(git rev-parse HEAD)" $(ARGS)

demo: build ## the lab on this machine, step by step (ARGS=--exit ends after it)
	@$(BIN)/hasp demo $(ARGS)

test: deps lint unit ladder test-kube ## everything CI runs; the slow rungs last

deps: ## the Debian packages that the tests use, when they are missing
	@test/setup/debian.sh

lint: ## formatting and go vet
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "run gofmt -w on these"; exit 1; }
	$(GO) vet ./...
	cd demo && $(GO) vet ./...
	cd deploy/images && $(GO) vet ./...
	cd $(CLUSTER) && $(GO) vet ./cmd/registry ./cmd/pause

# The race detector is on for all that is ours and not the API server: with it
# the Kubernetes libraries take longer to build than all else together.
RACE := ./api/... ./ca/... ./capture/... ./cni/... ./compile/... ./control/... ./dashboard/... ./inject/... ./mesh/... ./policy/... ./proof/... \
	./proxy/... ./sandbox/... ./source/... ./truth/... ./world/... ./xds/... ./cmd/hasp-proxy/...

unit: build ## unit, golden and in-process tests
	CGO_ENABLED=1 $(GO) test -race -timeout 20m $(RACE)
	$(GO) test ./proxy -args -portable
	$(GO) test . ./apiserver/... ./cli/... ./cluster/... ./deploy/... ./local/... ./cmd/hasp/... ./cmd/hasp-cni/...
	cd demo && $(GO) test ./...
	cd deploy/images && $(GO) test ./...
	cd $(CLUSTER) && $(GO) test ./cmd/registry

ladder: build ## real namespaces, programs and packets, as root and as a user
	$(GO) test -count=1 -p 1 -timeout 40m $$($(GO) list ./test/... | grep -v /test/kube)

# All of Kubernetes is six minutes of two cores: it is built when its sources or
# the compiler are others than last time.
kube-cluster: ## bin/kube: the Kubernetes of the tests
	@sources="$$({ $(GO) version; cat $(CLUSTER)/go.mod $(CLUSTER)/go.sum $$(ls $(CLUSTER)/cmd/*/*.go | grep -v _test); } | sha256sum)"; \
	if [ "$$(cat $(BIN)/kube/sources 2>/dev/null)" != "$$sources" ]; then \
		mkdir -p $(BIN)/kube && rm -f $(BIN)/kube/sources && cd $(CLUSTER) && \
		echo "Building Kubernetes, once." && $(BUILD) -o ../../../$(BIN)/kube/ ./cmd/... && \
		echo "$$sources" >../../../$(BIN)/kube/sources; \
	fi

kube: ## a Kubernetes of one node on this machine, until Ctrl-C (as root; ARGS="kubectl get pods" runs that and ends)
	@$(MAKE) --no-print-directory images kube-cluster ARGS=
	$(GO) build -o $(BIN)/kube/node ./test/kube/cmd/kube
	$(BIN)/kube/node $(ARGS)

test-kube: deps images kube-cluster ## the lab on a real Kubernetes (as root)
	$(GO) test -count=1 -p 1 -timeout 40m ./test/kube/...

golden: ## rewrite the golden cases; review the diff
	$(GO) test . ./policy ./compile ./api ./cli ./deploy ./inject -update

gen: ## generated files
	$(GO) generate ./...

memory: build ## a million short connections through a pair of sidecars: what is left of them?
	$(GO) test -count=1 -v -timeout 4h -run 'Short|Idle' ./test/memory -connections 1000000

FUZZTIME ?= 10s
fuzz: ## every fuzz target for FUZZTIME
	@for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz); do \
		echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$p || exit 1; done; done

proof: build ## some hundred connections beside a packet capture: how many disagree?
	$(GO) test -count=1 -v -run TestProof ./test/proof

bench: ## what a pair of sidecars costs, beside haproxy, nginx, Envoy (15 minutes): docs/benchmarks.md
	$(GO) run ./test/bench -out docs/benchmarks.md $(ARGS)

bench-go: ## the micro-benchmarks
	$(GO) test -run '^$$' -bench . -skip Reporting -benchmem ./proxy/... ./policy/... ./compile/... ./xds/...
	$(GO) test -run '^$$' -bench Reporting -benchtime 10s ./proxy

SCALE ?= -services 10000 -workloads 50000 -proxies 1000
scale: ## a mesh of 1,000 proxies and 50,000 workloads: what a change costs (writes docs/scale.md)
	$(GO) run ./test/scale $(SCALE) -out docs/scale.md

clean: ## what was built
	rm -rf $(BIN)
