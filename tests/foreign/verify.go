// Verifies an audit log with nothing of ours: Go's own golang.org/x/mod/sumdb/note opens what is signed, and
// golang.org/x/mod/sumdb/tlog does all of the hashing and proving, as they do for the checksum database of Go's
// modules. What stands here is only where things lie: the paths and texts of C2SP's tlog-tiles, tlog-checkpoint and
// tlog-proof. That both agree with us proves that our formats are what we say, and not merely what our own verifier
// takes.
//
//	verify -log FOLDER -key VKEY [-older CHECKPOINT] [-proofs ANSWERS] [-consistency ANSWERS] [-export LOG]
//
// FOLDER holds what lies under /audit/, as it was fetched. The other options name files; ANSWERS are those of auditProof or auditConsistency, one JSON after the
// other. Exits with 0 and a line of JSON when all agree, else with 1 and the reason.
//
// It needs no newer Go than 1.19, and neither modules nor a network to be built.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Verified is what is told in the end: the log as its newest checkpoint signs it, and how much was held against it.
type Verified struct {
	Entries       int64     `json:"entries"`
	Root          tlog.Hash `json:"root"`
	Older         int64     `json:"older"`
	Proofs        int64     `json:"proofs"`
	Consistencies int64     `json:"consistencies"`
	Exported      int64     `json:"exported"`
}

func main() {
	folder := flag.String("log", "", "where checkpoint and tiles lie")
	key := flag.String("key", "", "the verifier key of the log")
	older := flag.String("older", "", "a checkpoint that was kept")
	proofs := flag.String("proofs", "", "answers of auditProof { entry text }")
	consistency := flag.String("consistency", "", "answers of auditConsistency { from to fromRoot toRoot proof }")
	export := flag.String("export", "", "an export in the format jsonl")
	flag.Parse()

	verified, err := verify(*folder, *key, *older, *proofs, *consistency, *export)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(verified)
}

func verify(folder, key, older, proofs, consistency, export string) (told Verified, err error) {
	log, err := open(folder, key)
	if err != nil {
		return told, fmt.Errorf("checkpoint: %w", err)
	}
	told.Entries, told.Root = log.tree.N, log.tree.Hash
	steps := []struct {
		name, file string
		check      func(io.Reader) (int64, error)
		told       *int64
	}{
		{"older checkpoint", older, log.checkOlder, &told.Older},
		{"proof", proofs, log.checkProofs, &told.Proofs},
		{"consistency", consistency, log.checkConsistencies, &told.Consistencies},
		{"export", export, log.checkExport, &told.Exported},
	}
	for _, step := range steps {
		if *step.told, err = withFile(step.file, step.check); err != nil {
			return told, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return told, nil
}

func withFile(path string, check func(io.Reader) (int64, error)) (int64, error) {
	if path == "" {
		return 0, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return check(file)
}

// --- the log as it is served ----------------------------------------------------------------------------------------

// Log is one under its newest checkpoint. Every hash that the reader gives was led back to the signed root.
type Log struct {
	verifier note.Verifier
	tree     tlog.Tree
	hashes   tlog.HashReader
}

// open proves that the checkpoint is signed by the key, and that the tiles lead to the root that it signs.
func open(folder, key string) (*Log, error) {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return nil, err
	}
	log := &Log{verifier: verifier}
	tiles := Tiles{folder}
	signed, err := tiles.get("checkpoint")
	if err != nil {
		return nil, err
	}
	if log.tree, err = log.checkpoint(signed); err != nil {
		return nil, err
	}
	log.hashes = tlog.TileHashReader(log.tree, tiles)
	return log, log.checkRoot(log.tree.N, log.tree.Hash)
}

// checkpoint is the tree that a signed note tells of. It has the form of those of Go's checksum database, but for the
// first line: there it is always the same, in C2SP's it is the log's origin. So Go's parser can read the rest.
func (log *Log) checkpoint(signed []byte) (tlog.Tree, error) {
	opened, err := note.Open(signed, note.VerifierList(log.verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	origin, rest, _ := strings.Cut(opened.Text, "\n")
	if origin != log.verifier.Name() {
		return tlog.Tree{}, fmt.Errorf("it is of the log %q, and the key of %q", origin, log.verifier.Name())
	}
	return tlog.ParseTree([]byte("go.sum database tree\n" + rest))
}

// checkRoot proves that the tiles, as far as the first so many entries, lead to that root.
func (log *Log) checkRoot(size int64, root tlog.Hash) error {
	found, err := tlog.TreeHash(size, log.hashes)
	if err == nil && found != root {
		err = fmt.Errorf("the tiles lead to the root %v at %d entries, not to %v", found, size, root)
	}
	return err
}

// checkBeginning proves that the log begins with that tree, by a proof which Go makes of our tiles.
func (log *Log) checkBeginning(tree tlog.Tree) error {
	proof, err := tlog.ProveTree(log.tree.N, tree.N, log.hashes)
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, log.tree.N, log.tree.Hash, tree.N, tree.Hash)
}

// Tiles reads the tiles of a log, for tlog.TileHashReader.
type Tiles struct {
	folder string
}

func (tiles Tiles) Height() int                     { return 8 }
func (tiles Tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// ReadTiles maps paths: Go's begin with the height, tile/8/0/x001/234.p/5, and C2SP's lack it, since there it is fixed.
func (tiles Tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	found := make([][]byte, len(wanted))
	for i, tile := range wanted {
		var err error
		if found[i], err = tiles.get("tile/" + strings.TrimPrefix(tile.Path(), "tile/8/")); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (tiles Tiles) get(path string) ([]byte, error) {
	return os.ReadFile(filepath.Join(tiles.folder, filepath.FromSlash(path)))
}

// --- what is held against it ----------------------------------------------------------------------------------------

// checkOlder proves that nothing was rewritten since the checkpoint that was kept, and gives its size.
func (log *Log) checkOlder(file io.Reader) (int64, error) {
	signed, err := io.ReadAll(file)
	if err != nil {
		return 0, err
	}
	tree, err := log.checkpoint(signed)
	if err != nil {
		return 0, err
	}
	return tree.N, log.checkBeginning(tree)
}

// checkProofs proves that entries are in the log, by the registry's proofs and by those that Go makes of our tiles.
func (log *Log) checkProofs(file io.Reader) (int64, error) {
	return each(file, func(answer struct {
		Entry []byte
		Text  string
	}) error {
		proof, err := parseProof(answer.Text)
		if err != nil {
			return err
		}
		if err := log.checkProof(proof, tlog.RecordHash(answer.Entry)); err != nil {
			return err
		}
		if !bytes.Equal(proof.extra, answer.Entry) {
			return fmt.Errorf("of entry %d: the text holds other bytes", proof.index)
		}
		return nil
	})
}

// Proof is one in C2SP's tlog-proof, which holds the checkpoint that it leads to. Its extra data are the entry.
type Proof struct {
	extra      []byte
	index      int64
	hashes     tlog.RecordProof
	checkpoint string
}

func (log *Log) checkProof(proof Proof, leaf tlog.Hash) error {
	tree, err := log.checkpoint([]byte(proof.checkpoint))
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(proof.hashes, tree.N, tree.Hash, proof.index, leaf); err != nil {
		return fmt.Errorf("of entry %d in %d: %w", proof.index, tree.N, err)
	}
	if err := log.checkBeginning(tree); err != nil {
		return err
	}
	own, err := tlog.ProveRecord(tree.N, proof.index, log.hashes)
	if err != nil {
		return err
	}
	if !same(own, proof.hashes) {
		return fmt.Errorf("of entry %d in %d: Go takes other hashes", proof.index, tree.N)
	}
	return log.checkRecord(proof.index, leaf)
}

// checkRecord proves that an entry is in the newest log, by a proof which Go makes of our tiles.
func (log *Log) checkRecord(index int64, leaf tlog.Hash) error {
	proof, err := tlog.ProveRecord(log.tree.N, index, log.hashes)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(proof, log.tree.N, log.tree.Hash, index, leaf)
}

// parseProof reads the text of a proof: its name, the extra data, the index, the hashes, an empty line, and the
// checkpoint.
func parseProof(text string) (proof Proof, err error) {
	head, checkpoint, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if len(lines) > 1 && strings.HasPrefix(lines[1], "extra ") {
		if proof.extra, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra ")); err != nil {
			return proof, err
		}
		lines = append(lines[:1], lines[2:]...)
	}
	if len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "index ") {
		return proof, errors.New("the text is no tlog-proof")
	}
	proof.checkpoint = checkpoint
	if proof.index, err = strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64); err != nil {
		return proof, err
	}
	for _, line := range lines[2:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return proof, err
		}
		proof.hashes = append(proof.hashes, hash)
	}
	return proof, nil
}

// checkConsistencies proves that one size of the log is the beginning of another, by the proof of the registry. Both
// roots must be those of the tiles too, and the proof the one that Go makes of them.
func (log *Log) checkConsistencies(file io.Reader) (int64, error) {
	return each(file, func(answer struct {
		From, To         int64
		FromRoot, ToRoot tlog.Hash
		Proof            tlog.TreeProof
	}) error {
		if err := tlog.CheckTree(answer.Proof, answer.To, answer.ToRoot, answer.From, answer.FromRoot); err != nil {
			return fmt.Errorf("of %d with %d: %w", answer.From, answer.To, err)
		}
		if err := log.checkRoot(answer.From, answer.FromRoot); err != nil {
			return err
		}
		if err := log.checkRoot(answer.To, answer.ToRoot); err != nil {
			return err
		}
		own, err := tlog.ProveTree(answer.To, answer.From, log.hashes)
		if err == nil && !same(own, answer.Proof) {
			err = fmt.Errorf("of %d with %d: Go takes other hashes", answer.From, answer.To)
		}
		return err
	})
}

// checkExport builds the whole tree anew from the bytes of the entries. It must be that of the checkpoint in the last
// line, and the log must begin with it. Gives the number of entries.
func (log *Log) checkExport(file io.Reader) (int64, error) {
	tree, signed := Tree{}, ""
	_, err := each(file, func(line struct {
		Seq        int64
		Entry      []byte
		Checkpoint string
	}) error {
		if signed != "" {
			return errors.New("something follows the checkpoint")
		}
		if signed = line.Checkpoint; signed != "" {
			return nil
		}
		if line.Seq != tree.size {
			return fmt.Errorf("entry %d stands where %d belongs", line.Seq, tree.size)
		}
		return tree.add(line.Entry)
	})
	if err != nil {
		return 0, err
	}
	exported, err := log.checkpoint([]byte(signed))
	if err != nil {
		return 0, err
	}
	if root, err := tlog.TreeHash(tree.size, &tree); err != nil || tree.size != exported.N || root != exported.Hash {
		return 0, fmt.Errorf("%d entries with the root %v; signed are %d with %v", tree.size, root, exported.N, exported.Hash)
	}
	return tree.size, log.checkBeginning(exported)
}

// Tree is one that grows in memory, as tlog stores it.
type Tree struct {
	size   int64
	stored []tlog.Hash
}

func (tree *Tree) add(entry []byte) error {
	hashes, err := tlog.StoredHashes(tree.size, entry, tree)
	tree.stored = append(tree.stored, hashes...)
	tree.size++
	return err
}

func (tree *Tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		found[i] = tree.stored[index]
	}
	return found, nil
}

// each takes one JSON after another out of a file, and gives their number. A file that holds none proves nothing.
func each[T any](file io.Reader, check func(T) error) (int64, error) {
	decoder := json.NewDecoder(file)
	for count := int64(0); ; count++ {
		var one T
		err := decoder.Decode(&one)
		if err == io.EOF && count > 0 {
			return count, nil
		}
		if err == nil {
			err = check(one)
		}
		if err != nil {
			return count, err
		}
	}
}

// same compares lists of hashes; of none there are two kinds in Go, and both are the same list.
func same[T ~[]tlog.Hash](one, other T) bool {
	return len(one) == 0 && len(other) == 0 || reflect.DeepEqual(one, other)
}
