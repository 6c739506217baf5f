package proxy

import (
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
)

// grpcStatus is a gRPC status code plus one; 0 is that none came.
type grpcStatus uint8

func statusOf(c codes.Code) grpcStatus { return grpcStatus(c) + 1 }

// parseStatus reads a grpc-status field. As gRPC has it, a number that it does
// not know is UNKNOWN.
func parseStatus(s string) grpcStatus {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n > uint64(codes.Unauthenticated) {
		return statusOf(codes.Unknown)
	}
	return statusOf(codes.Code(n))
}

// String is the number, "" when none came: Istio's label grpc_response_status.
func (s grpcStatus) String() string {
	if s == 0 {
		return ""
	}
	return strconv.Itoa(int(s) - 1)
}

// failed tells whether the server failed: the statuses that stand for a 5xx.
// https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
func (s grpcStatus) failed() bool {
	if s == 0 {
		return false
	}
	switch codes.Code(s - 1) {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		return true
	}
	return false
}

// isGRPC tells it by the content type, of which grpc-web is another.
func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(contentType, "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}
