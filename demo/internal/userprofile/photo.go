package userprofile

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"path"
	"strings"
	"unicode"
)

// maxPhoto bounds an upload, form and all.
const maxPhoto = 5 << 20

// upload keeps the part "image" of a multipart form as the user's photo.
func (h handler) upload(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxPhoto)
	form, err := r.MultipartReader()
	if err != nil {
		return badRequest{http.StatusUnsupportedMediaType, "the body must be multipart/form-data"}
	}
	photo, err := readPhoto(form)
	if err != nil {
		return err
	}
	if photo.FileName == "" {
		photo.FileName = fileName(r.PathValue("id"))
	}
	done, err := h.Store.SavePhoto(r.Context(), r.PathValue("id"), photo)
	switch {
	case err != nil:
		return err
	case !done:
		return badRequest{http.StatusBadRequest, "there is no user with this id"}
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// readPhoto finds the first part called "image" and reads it.
func readPhoto(form *multipart.Reader) (Photo, error) {
	for {
		part, err := form.NextPart()
		switch {
		case errors.Is(err, io.EOF):
			return Photo{}, badRequest{http.StatusBadRequest, `the form has no part "image"`}
		case err != nil:
			return Photo{}, bodyFault(err, maxPhoto)
		case part.FormName() != "image":
			continue
		}
		image, err := io.ReadAll(part)
		if err != nil {
			return Photo{}, bodyFault(err, maxPhoto)
		}
		return Photo{FileName: fileName(part.FileName()), Image: image}, nil
	}
}

// fileName makes a harmless file name of what a client calls its file: the
// last element of the path, printable, at most 128 bytes, not hidden.
func fileName(name string) string {
	name = path.Base("/" + strings.ReplaceAll(name, `\`, "/"))
	name = strings.Map(func(c rune) rune {
		if c == '/' || c == unicode.ReplacementChar || !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, name)
	name = strings.TrimLeft(name, ". ")
	for len(name) > 128 {
		name = name[:len(name)-1]
	}
	return strings.ToValidUTF8(name, "")
}

// download answers the user's photo. The type says nothing of its content, so
// that no browser shows what a stranger uploaded as a page.
func (h handler) download(w http.ResponseWriter, r *http.Request) error {
	photo, err := h.Store.Photo(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", mime.FormatMediaType("image", map[string]string{"filename": photo.FileName}))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(photo.Image) // a client that has gone is not our error
	return nil
}
