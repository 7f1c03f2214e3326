package guest

import (
	"fmt"
	"os"
	"path/filepath"
)

// cacheFolder is where scripts/guest and scripts/fetch-ort put what they download.
func cacheFolder() (string, error) {
	if dir := os.Getenv("STRATA_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	return filepath.Join(dir, "strata"), nil
}
