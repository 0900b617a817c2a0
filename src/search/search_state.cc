#include "src/search/search_state.h"

#include <fcntl.h>
#include <hdf5.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "src/base/error.h"

namespace amalgam {

namespace {

constexpr int64_t version = 1;
/// In front of what is HDF5's: a line with the digest of the rest. HDF5 does not notice changed bytes, and some end the program.
constexpr uint64_t digest_bytes = 512;
constexpr hsize_t most_numbers = hsize_t(1) << 30, most_text = hsize_t(1) << 30;

/// An object of HDF5, closed in the end.
class Handle {
  public:
    Handle(hid_t id, herr_t (*closer)(hid_t), const char* what) : id_(id), close_(closer) {
        check(id >= 0, "{}: HDF5 cannot do it", what);
    }
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    ~Handle() {
        if (id_ >= 0) close_(id_);
    }
    operator hid_t() const { return id_; }
    void close(const char* what) { check(close_(std::exchange(id_, -1)) >= 0, "{}: HDF5 cannot do it", what); }

  private:
    hid_t id_;
    herr_t (*close_)(hid_t);
};

/// HDF5 prints what goes wrong unless it is told not to.
void say_nothing() {
    static const bool done = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
    check(done, "HDF5 cannot be set up");
}

void must(herr_t result, const char* what) { check(result >= 0, "{}: HDF5 cannot do it", what); }

void write_numbers(hid_t file, const char* name, const double* numbers, std::vector<hsize_t> shape) {
    const Handle space(H5Screate_simple(int(shape.size()), shape.data(), nullptr), H5Sclose, name);
    const Handle set(H5Dcreate2(file, name, H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Dclose,
                     name);
    must(H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, numbers), name);
}

/// As bytes: HDF5's own texts end at a zero.
void write_text(hid_t file, const char* name, const std::string& text) {
    const hsize_t size = text.size();
    const Handle space(H5Screate_simple(1, &size, nullptr), H5Sclose, name);
    const Handle set(H5Dcreate2(file, name, H5T_STD_U8LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Dclose,
                     name);
    if (size > 0) must(H5Dwrite(set, H5T_NATIVE_UCHAR, H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data()), name);
}

void write_count(hid_t file, const char* name, int64_t value) {
    const Handle space(H5Screate(H5S_SCALAR), H5Sclose, name);
    const Handle attribute(H5Acreate2(file, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose, name);
    must(H5Awrite(attribute, H5T_NATIVE_INT64, &value), name);
}

/// Its shape, which has `rank` sizes and at most `most` elements.
std::vector<hsize_t> shape_of(hid_t set, const char* name, int rank, hsize_t most) {
    const Handle space(H5Dget_space(set), H5Sclose, name);
    check(H5Sget_simple_extent_ndims(space) == rank, "{}: has another shape", name);
    std::vector<hsize_t> shape(size_t(rank), 0);
    must(H5Sget_simple_extent_dims(space, shape.data(), nullptr), name);
    hsize_t count = 1;
    for (hsize_t size : shape) {
        check(size == 0 || count <= most / size, "{}: is too large", name);
        count *= size;
    }
    return shape;
}

std::vector<double> read_numbers(hid_t file, const char* name, std::vector<hsize_t>& shape, int rank) {
    const Handle set(H5Dopen2(file, name, H5P_DEFAULT), H5Dclose, name);
    shape = shape_of(set, name, rank, most_numbers);
    size_t count = 1;
    for (hsize_t size : shape) count *= size;
    std::vector<double> numbers(count);
    if (count > 0) must(H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, numbers.data()), name);
    return numbers;
}

std::string read_text(hid_t file, const char* name) {
    const Handle set(H5Dopen2(file, name, H5P_DEFAULT), H5Dclose, name);
    std::string text(shape_of(set, name, 1, most_text)[0], '\0');
    if (!text.empty()) must(H5Dread(set, H5T_NATIVE_UCHAR, H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data()), name);
    return text;
}

int64_t read_count(hid_t file, const char* name) {
    const Handle attribute(H5Aopen(file, name, H5P_DEFAULT), H5Aclose, name);
    int64_t value = 0;
    must(H5Aread(attribute, H5T_NATIVE_INT64, &value), name);
    return value;
}

std::string joined(const std::vector<std::string>& lines) {
    std::string text;
    for (const std::string& line : lines) text += line + "\n";
    return text;
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find('\n', at), text.size());
        lines.push_back(text.substr(at, end - at));
        at = end + 1;
    }
    return lines;
}

void write_all(const std::string& path, const SearchState& state) {
    const Handle layout(H5Pcreate(H5P_FILE_CREATE), H5Pclose, "the file");
    must(H5Pset_userblock(layout, digest_bytes), "the file");
    Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, layout, H5P_DEFAULT), H5Fclose, "the file");
    write_count(file, "version", version);
    write_count(file, "generation", state.generation);
    write_count(file, "evaluations", state.evaluations);
    for (const auto& [name, text] : {std::pair("key", &state.key), std::pair("phase", &state.phase),
                                     std::pair("optimiser", &state.optimiser), std::pair("cut", &state.cut)})
        write_text(file, name, *text);
    write_text(file, "genes", joined(state.genes));
    write_numbers(file, "mean", state.mean.data(), {state.mean.size()});
    write_numbers(file, "objectives", state.objectives.data(), {state.objectives.size()});
    std::vector<double> genomes;
    for (const std::vector<double>& genome : state.genomes) {
        check(genome.size() == state.genes.size(), "a genome of {} numbers for {} genes (a bug in the program)",
              genome.size(), state.genes.size());
        genomes.insert(genomes.end(), genome.begin(), genome.end());
    }
    write_numbers(file, "genomes", genomes.data(), {state.genomes.size(), state.genes.size()});
    file.close("the file");
}

std::string digest_line(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    check(file.good() || file.eof(), "cannot be read");
    const uint64_t size = std::min<uint64_t>(bytes.size(), digest_bytes);
    return fmt::format("amalgam search state {:016x}\n", uint64_t(XXH64(bytes.data() + size, bytes.size() - size, 0)));
}

void write_digest(const std::string& path) {
    const std::string line = digest_line(path);
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file << line;
    file.close();
    check(file.good(), "cannot be written");
}

void check_digest(const std::string& path) {
    const std::string wanted = digest_line(path);
    std::string line(wanted.size(), '\0');
    std::ifstream(path, std::ios::binary).read(line.data(), int64_t(line.size()));
    check(line == wanted, "its digest is another: the file is damaged, or was not written by this program");
}

void sync(const std::string& path, int flags) {
    const int file = ::open(path.c_str(), flags | O_CLOEXEC);
    check(file >= 0, "cannot be opened: {}", errno_text(errno));
    const int result = ::fsync(file), reason = errno;
    ::close(file);
    check(result == 0, "cannot be synced: {}", errno_text(reason));
}

SearchState read_all(const std::string& path) {
    const Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose, "the file");
    check(read_count(file, "version") == version, "version {}: this program reads version {}",
          read_count(file, "version"), version);
    SearchState state;
    state.generation = read_count(file, "generation");
    state.evaluations = read_count(file, "evaluations");
    state.key = read_text(file, "key");
    state.phase = read_text(file, "phase");
    state.optimiser = read_text(file, "optimiser");
    state.cut = read_text(file, "cut");
    state.genes = lines_of(read_text(file, "genes"));
    std::vector<hsize_t> shape;
    state.mean = read_numbers(file, "mean", shape, 1);
    state.objectives = read_numbers(file, "objectives", shape, 1);
    const std::vector<double> genomes = read_numbers(file, "genomes", shape, 2);
    for (hsize_t row = 0; row < shape[0]; ++row)
        state.genomes.emplace_back(genomes.begin() + int64_t(row * shape[1]),
                                   genomes.begin() + int64_t((row + 1) * shape[1]));
    return state;
}

}  // namespace

void write_search_state(const std::string& path, const SearchState& state) {
    say_nothing();
    const std::string fresh = path + ".new";
    try {
        write_all(fresh, state);
        write_digest(fresh);
        sync(fresh, O_RDONLY);
        check(std::rename(fresh.c_str(), path.c_str()) == 0, "cannot be renamed: {}", errno_text(errno));
        const std::string folder = std::filesystem::path(path).parent_path().string();
        sync(folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY);
    } catch (const Error& error) {
        fail("{}: the state of the search cannot be written: {}", printable(path), error.what());
    }
}

std::optional<SearchState> read_search_state(const std::string& path) {
    struct stat facts {};
    if (::stat(path.c_str(), &facts) != 0 && errno == ENOENT) return std::nullopt;
    say_nothing();
    try {
        check_digest(path);
        return read_all(path);
    } catch (const Error& error) {
        fail("{}: is no state of a search: {}", printable(path), error.what());
    }
}

}  // namespace amalgam
