package xds

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"hasp/mesh"
)

// Limits of what a report has in it.
const (
	maxText = 1 << 10 // bytes
	maxList = 32      // elements
)

// walk visits the texts, lists and times of a value of package mesh.
func walk(v reflect.Value, visit func(reflect.Value) error) error {
	if _, ok := reflect.TypeAssert[time.Time](v); ok {
		return visit(v)
	}
	switch v.Kind() {
	case reflect.String:
		return visit(v)
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return walk(v.Elem(), visit)
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				continue
			}
			if err := walk(v.Field(i), visit); err != nil {
				return err
			}
		}
	case reflect.Slice:
		if err := visit(v); err != nil {
			return err
		}
		for i := range v.Len() {
			if err := walk(v.Index(i), visit); err != nil {
				return err
			}
		}
	}
	return nil
}

// within is an error when a text or a list is too long, or a time has no JSON.
func within(v reflect.Value) error {
	if t, ok := reflect.TypeAssert[time.Time](v); ok {
		if y := t.UTC().Year(); y < 1 || y > 9999 {
			return errors.New("a time is out of range")
		}
		return nil
	}
	switch n := v.Len(); {
	case v.Kind() == reflect.String && n > maxText:
		return fmt.Errorf("a text has %d bytes, the limit is %d", n, maxText)
	case v.Kind() == reflect.Slice && n > maxList:
		return fmt.Errorf("a list has %d elements, the limit is %d", n, maxList)
	}
	return nil
}

func withinLimits(v any) bool { return walk(reflect.ValueOf(v), within) == nil }

// tidy refuses what is not within the limits, and puts times in UTC.
func tidy(p any) error {
	return walk(reflect.ValueOf(p), func(v reflect.Value) error {
		if err := within(v); err != nil {
			return err
		}
		if t, ok := reflect.TypeAssert[time.Time](v); ok {
			v.Set(reflect.ValueOf(t.UTC()))
		}
		return nil
	})
}

// clipped is a copy, by way of its JSON, of what p points to, cut to the limits.
func clipped(p any, asJSON []byte) (any, error) {
	out := reflect.New(reflect.TypeOf(p).Elem())
	if err := json.Unmarshal(asJSON, out.Interface()); err != nil {
		return nil, err
	}
	err := walk(out, func(v reflect.Value) error {
		switch {
		case v.Kind() == reflect.String:
			v.SetString(clipText(v.String()))
		case v.Kind() == reflect.Slice && v.Len() > maxList:
			v.Set(v.Slice(0, maxList))
		}
		return nil
	})
	return out.Interface(), err
}

// SizeOf a report is about how many bytes of memory it takes.
func SizeOf(r *mesh.Report) int {
	n := 0
	_ = walk(reflect.ValueOf(r), func(v reflect.Value) error {
		switch v.Kind() {
		case reflect.String:
			n += v.Len()
		case reflect.Slice:
			n += v.Len() * int(v.Type().Elem().Size())
		}
		return nil
	})
	return n
}

// clipText is a text as Envoy's messages and ours may carry it.
func clipText(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxText)], "")
}
