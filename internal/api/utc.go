package api

import (
	"reflect"
	"time"
)

// inUTC returns a copy of v in which every time is in UTC, as the API promises.
func inUTC(v any) any {
	if v == nil {
		return nil
	}
	out := reflect.New(reflect.TypeOf(v)).Elem()
	out.Set(reflect.ValueOf(v))
	utc(out)
	return out.Interface()
}

func utc(v reflect.Value) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		if t, ok := reflect.TypeAssert[time.Time](v); ok && !t.IsZero() {
			v.Set(reflect.ValueOf(t.UTC()))
		}
		return
	}
	if v.Kind() == reflect.Pointer && !v.IsNil() && v.Type().Elem().Kind() == reflect.Struct {
		clone := reflect.New(v.Type().Elem())
		clone.Elem().Set(v.Elem())
		utc(clone.Elem())
		v.Set(clone)
		return
	}
	if v.Kind() == reflect.Struct {
		for _, f := range v.Fields() {
			if f.CanSet() {
				utc(f)
			}
		}
		return
	}
	if v.Kind() == reflect.Slice && v.Len() > 0 && v.Type().Elem().Kind() == reflect.Struct {
		clone := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(clone, v)
		for i := range clone.Len() {
			utc(clone.Index(i))
		}
		v.Set(clone)
	}
}
