package userprofile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

const columns = `id, first_name, last_name, about_me, email_address, created_at, style_id`

// Profiles lists the users, oldest first, 500 at most.
func (s *Store) Profiles(ctx context.Context) ([]Profile, error) {
	db, err := s.conn(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, `SELECT `+columns+` FROM profiles ORDER BY created_at, id LIMIT $1`, listLimit)
	if err != nil {
		return nil, fmt.Errorf("userprofile: list: %w", err)
	}
	defer rows.Close()
	list := []Profile{}
	for rows.Next() {
		p, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("userprofile: list: %w", err)
	}
	return list, nil
}

// Profile returns one user, or [ErrNotFound].
func (s *Store) Profile(ctx context.Context, id string) (Profile, error) {
	db, err := s.conn(ctx)
	if err != nil {
		return Profile{}, err
	}
	return scan(db.QueryRowContext(ctx, `SELECT `+columns+` FROM profiles WHERE id = $1`, id))
}

func scan(row interface{ Scan(...any) error }) (Profile, error) {
	var p Profile
	var created int64
	err := row.Scan(&p.ID, &p.FirstName, &p.LastName, &p.AboutMe, &p.EmailAddress, &created, &p.StyleID)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return p, fmt.Errorf("userprofile: profile: %w", ErrNotFound)
	case err != nil:
		return p, fmt.Errorf("userprofile: read a profile: %w", err)
	}
	p.CreatedAt = timestamp(time.UnixMilli(created))
	return p, nil
}

// Create adds a user; false says that the id is taken.
func (s *Store) Create(ctx context.Context, p Profile) (bool, error) {
	return s.exec(ctx, "create",
		`INSERT INTO profiles (`+columns+`) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING`,
		p.ID, p.FirstName, p.LastName, p.AboutMe, p.EmailAddress, time.Time(p.CreatedAt).UnixMilli(), p.StyleID)
}

// Update changes everything but the id and the time of creation; false says
// that there is no such user.
func (s *Store) Update(ctx context.Context, p Profile) (bool, error) {
	return s.exec(ctx, "update",
		`UPDATE profiles SET first_name = $1, last_name = $2, about_me = $3, email_address = $4, style_id = $5 WHERE id = $6`,
		p.FirstName, p.LastName, p.AboutMe, p.EmailAddress, p.StyleID, p.ID)
}

// SavePhoto keeps a user's photo in place of an older one; false says that
// there is no such user.
func (s *Store) SavePhoto(ctx context.Context, id string, photo Photo) (bool, error) {
	return s.exec(ctx, "save a photo",
		`INSERT INTO photos (profile_id, file_name, image)
		 SELECT id, $2, $3 FROM profiles WHERE id = $1
		 ON CONFLICT (profile_id) DO UPDATE SET file_name = excluded.file_name, image = excluded.image`,
		id, photo.FileName, photo.Image)
}

// Photo returns a user's photo, or [ErrNotFound].
func (s *Store) Photo(ctx context.Context, id string) (Photo, error) {
	db, err := s.conn(ctx)
	if err != nil {
		return Photo{}, err
	}
	var photo Photo
	err = db.QueryRowContext(ctx, `SELECT file_name, image FROM photos WHERE profile_id = $1`, id).
		Scan(&photo.FileName, &photo.Image)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return photo, fmt.Errorf("userprofile: photo: %w", ErrNotFound)
	case err != nil:
		return photo, fmt.Errorf("userprofile: read a photo: %w", err)
	}
	return photo, nil
}

// exec runs a statement that changes one row or none.
func (s *Store) exec(ctx context.Context, what, stmt string, args ...any) (bool, error) {
	db, err := s.conn(ctx)
	if err != nil {
		return false, err
	}
	res, err := db.ExecContext(ctx, stmt, args...)
	if err != nil {
		return false, fmt.Errorf("userprofile: %s: %w", what, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("userprofile: %s: %w", what, err)
	}
	return n > 0, nil
}
