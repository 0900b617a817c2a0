#include "src/comm/mpi_communicator.h"

// The C++ bindings, removed from MPI 3, need a library of their own.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <numeric>
#include <utility>

#include "src/comm/patience.h"

#if defined(__SANITIZE_ADDRESS__)
#define AMALGAM_LEAK_CHECK 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define AMALGAM_LEAK_CHECK 1
#endif
#endif
#ifdef AMALGAM_LEAK_CHECK
#include <sanitizer/lsan_interface.h>
#endif

namespace amalgam {
namespace {

/// Tags above those of users.
constexpr int most_user_tag = 30000;
constexpr int gather_tag = most_user_tag + 1;
constexpr int range_tag = most_user_tag + 2;

template <class Value>
MPI_Datatype type_of();
template <>
MPI_Datatype type_of<uint64_t>() {
    return MPI_UINT64_T;
}
template <>
MPI_Datatype type_of<int64_t>() {
    return MPI_INT64_T;
}
template <>
MPI_Datatype type_of<uint32_t>() {
    return MPI_UINT32_T;
}

class MpiCommunicator : public Communicator {
  public:
    /// Takes over `handle`. `nodes`: for each rank a number that ranks on one machine have in common.
    MpiCommunicator(MPI_Comm handle, std::vector<int> nodes, int64_t chunk)
        : handle_(handle), nodes_(std::move(nodes)), chunk_(chunk) {
        AMALGAM_MPI(MPI_Comm_rank(handle_, &rank_));
        AMALGAM_MPI(MPI_Comm_size(handle_, &size_));
    }
    ~MpiCommunicator() override {
        if (handle_ != MPI_COMM_WORLD) MPI_Comm_free(&handle_);
    }

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    int node_size() const override { return int(std::count(nodes_.begin(), nodes_.end(), nodes_[size_t(rank_)])); }
    int node_rank() const override {
        return int(std::count(nodes_.begin(), nodes_.begin() + rank_, nodes_[size_t(rank_)]));
    }

    void barrier() override {
        // The library's own waits at full speed; others may have minutes to go, and need the core.
        MPI_Request request = MPI_REQUEST_NULL;
        AMALGAM_MPI(MPI_Ibarrier(handle_, &request));
        Patience patience(0);
        for (int done = 0;;) {
            AMALGAM_MPI(MPI_Test(&request, &done, MPI_STATUS_IGNORE));
            if (done) return;
            patience.wait();
        }
    }

    void all_reduce_sum(std::span<uint64_t> values) override { all_reduce(values, MPI_SUM); }
    void all_reduce_sum(std::span<int64_t> values) override { all_reduce(values, MPI_SUM); }
    void all_reduce_sum(std::span<uint32_t> values) override { all_reduce(values, MPI_SUM); }
    void all_reduce_max(std::span<uint64_t> values) override { all_reduce(values, MPI_MAX); }
    void all_reduce_min(std::span<uint64_t> values) override { all_reduce(values, MPI_MIN); }

    void exclusive_sum(std::span<uint64_t> values) override {
        for_chunks(values, [&](uint64_t* data, int count) {
            AMALGAM_MPI(MPI_Exscan(MPI_IN_PLACE, data, count, MPI_UINT64_T, MPI_SUM, handle_));
        });
        // MPI leaves rank 0 undefined.
        if (rank_ == 0) std::fill(values.begin(), values.end(), 0);
    }

    using Communicator::broadcast;
    void broadcast(std::span<std::byte> bytes, int root) override {
        check_rank(root);
        for_chunks(bytes,
                   [&](std::byte* data, int count) { AMALGAM_MPI(MPI_Bcast(data, count, MPI_BYTE, root, handle_)); });
    }

    std::vector<std::string> gather(const std::string& bytes, int root) override {
        check_rank(root);
        const std::vector<uint64_t> lengths = all_lengths(bytes);
        const uint64_t total = std::accumulate(lengths.begin(), lengths.end(), uint64_t{0});
        if (total > uint64_t(chunk_)) return gather_long(bytes, lengths, root);
        const auto [counts, places] = layout(lengths);
        std::string all(rank_ == root ? total : 0, '\0');
        AMALGAM_MPI(MPI_Gatherv(bytes.data(), int(bytes.size()), MPI_BYTE, all.data(), counts.data(), places.data(),
                                MPI_BYTE, root, handle_));
        return rank_ == root ? split(all, lengths) : std::vector<std::string>{};
    }

    std::vector<std::string> all_gather(const std::string& bytes) override {
        const std::vector<uint64_t> lengths = all_lengths(bytes);
        const uint64_t total = std::accumulate(lengths.begin(), lengths.end(), uint64_t{0});
        std::string all(total, '\0');
        if (total <= uint64_t(chunk_)) {
            const auto [counts, places] = layout(lengths);
            AMALGAM_MPI(MPI_Allgatherv(bytes.data(), int(bytes.size()), MPI_BYTE, all.data(), counts.data(),
                                       places.data(), MPI_BYTE, handle_));
            return split(all, lengths);
        }
        std::vector<std::string> result(lengths.size());
        for (int rank = 0; rank < size_; ++rank) {
            std::string& text = result[size_t(rank)];
            text = rank == rank_ ? bytes : std::string(lengths[size_t(rank)], '\0');
            broadcast(std::as_writable_bytes(std::span<char>(text)), rank);
        }
        return result;
    }

    using Communicator::send;
    void send(std::span<const std::byte> bytes, int to, int tag) override {
        check_peer(to, tag);
        uint64_t length = bytes.size();
        AMALGAM_MPI(MPI_Send(&length, 1, MPI_UINT64_T, to, tag, handle_));
        send_pieces(bytes, to, tag);
    }

    std::string receive(int from, int tag) override {
        check_peer(from, tag);
        std::string bytes(receive_length(from, tag), '\0');
        receive_pieces(std::as_writable_bytes(std::span<char>(bytes)), from, tag);
        return bytes;
    }

    void receive(std::span<std::byte> bytes, int from, int tag) override {
        check_peer(from, tag);
        const uint64_t length = receive_length(from, tag);
        check(length == bytes.size(), "rank {} sent {} bytes where rank {} expects {} (a bug in the program)", from,
              length, rank_, bytes.size());
        receive_pieces(bytes, from, tag);
    }

    std::unique_ptr<Transport> transport() override { return mpi::transport(MPI_Comm_c2f(handle_), chunk_); }

    std::unique_ptr<Mailbox> mailbox(int tag) override {
        check(0 <= tag && tag <= most_user_tag, "tag {}: those of users are 0 to {} (a bug in the program)", tag,
              most_user_tag);
        return mpi::mailbox(MPI_Comm_c2f(handle_), tag, chunk_);
    }

    std::unique_ptr<Communicator> every(int first, int last, int step) override {
        check(0 <= first && first <= rank_ && rank_ < last && last <= size_ && step > 0 && (rank_ - first) % step == 0,
              "rank {} of {} asks for the group of ranks {} to {} by {} (a bug in the program)", rank_, size_, first,
              last, step);
        MPI_Group all = MPI_GROUP_NULL, part = MPI_GROUP_NULL;
        AMALGAM_MPI(MPI_Comm_group(handle_, &all));
        int triplet[1][3] = {{first, last - 1, step}};
        AMALGAM_MPI(MPI_Group_range_incl(all, 1, triplet, &part));
        MPI_Comm handle = MPI_COMM_NULL;
        AMALGAM_MPI(MPI_Comm_create_group(handle_, part, range_tag, &handle));
        AMALGAM_MPI(MPI_Group_free(&part));
        AMALGAM_MPI(MPI_Group_free(&all));
        std::vector<int> nodes;
        for (int rank = first; rank < last; rank += step) nodes.push_back(nodes_[size_t(rank)]);
        return std::make_unique<MpiCommunicator>(handle, std::move(nodes), chunk_);
    }

    std::unique_ptr<Communicator> renumber(int rank) override {
        check_rank(rank);
        MPI_Comm handle = MPI_COMM_NULL;
        AMALGAM_MPI(MPI_Comm_split(handle_, 0, rank, &handle));
        std::vector<int> numbers(nodes_.size()), nodes(nodes_.size());
        AMALGAM_MPI(MPI_Allgather(&rank, 1, MPI_INT, numbers.data(), 1, MPI_INT, handle_));
        for (size_t old = 0; old < numbers.size(); ++old) nodes[size_t(numbers[old])] = nodes_[old];
        return std::make_unique<MpiCommunicator>(handle, std::move(nodes), chunk_);
    }

    void set_chunk_bytes(int64_t bytes) override {
        check(bytes >= 8 && bytes <= default_chunk, "messages of {} bytes: 8 to {} are possible", bytes, default_chunk);
        chunk_ = bytes;
    }

    /// Counts of MPI are ints; a power of two keeps the pieces aligned.
    static constexpr int64_t default_chunk = int64_t{1} << 30;

  private:
    void check_rank(int rank) const {
        check(0 <= rank && rank < size_, "rank {} of a group of {} (a bug in the program)", rank, size_);
    }
    void check_peer(int rank, int tag) const {
        check_rank(rank);
        check(rank != rank_, "a message of rank {} to itself (a bug in the program)", rank);
        check(0 <= tag && tag <= most_user_tag, "tag {} of a message is not in 0 to {} (a bug in the program)", tag,
              most_user_tag);
    }

    template <class Value, class Call>
    void for_chunks(std::span<Value> values, const Call& call) const {
        const size_t step = size_t(chunk_) / sizeof(Value);
        for (size_t first = 0; first < values.size(); first += step)
            call(values.data() + first, int(std::min(step, values.size() - first)));
    }

    template <class Value>
    void all_reduce(std::span<Value> values, MPI_Op operation) {
        for_chunks(values, [&](Value* data, int count) {
            AMALGAM_MPI(MPI_Allreduce(MPI_IN_PLACE, data, count, type_of<Value>(), operation, handle_));
        });
    }

    std::vector<uint64_t> all_lengths(const std::string& bytes) {
        std::vector<uint64_t> lengths(static_cast<size_t>(size_));
        const uint64_t own = bytes.size();
        AMALGAM_MPI(MPI_Allgather(&own, 1, MPI_UINT64_T, lengths.data(), 1, MPI_UINT64_T, handle_));
        return lengths;
    }

    struct Layout {
        std::vector<int> counts, places;
    };
    static Layout layout(const std::vector<uint64_t>& lengths) {
        Layout result;
        int place = 0;
        for (const uint64_t length : lengths) {
            result.counts.push_back(int(length));
            result.places.push_back(place);
            place += int(length);
        }
        return result;
    }
    static std::vector<std::string> split(const std::string& all, const std::vector<uint64_t>& lengths) {
        std::vector<std::string> result;
        size_t place = 0;
        for (const uint64_t length : lengths) {
            result.push_back(all.substr(place, length));
            place += length;
        }
        return result;
    }

    std::vector<std::string> gather_long(const std::string& bytes, const std::vector<uint64_t>& lengths, int root) {
        if (rank_ != root) {
            send_pieces(std::as_bytes(std::span<const char>(bytes)), root, gather_tag);
            return {};
        }
        std::vector<std::string> result(lengths.size());
        for (int rank = 0; rank < size_; ++rank) {
            std::string& text = result[size_t(rank)];
            text = rank == rank_ ? bytes : std::string(lengths[size_t(rank)], '\0');
            if (rank != rank_) receive_pieces(std::as_writable_bytes(std::span<char>(text)), rank, gather_tag);
        }
        return result;
    }

    void send_pieces(std::span<const std::byte> bytes, int to, int tag) {
        for_chunks(bytes, [&](const std::byte* data, int count) {
            AMALGAM_MPI(MPI_Send(data, count, MPI_BYTE, to, tag, handle_));
        });
    }
    uint64_t receive_length(int from, int tag) {
        uint64_t length = 0;
        AMALGAM_MPI(MPI_Recv(&length, 1, MPI_UINT64_T, from, tag, handle_, MPI_STATUS_IGNORE));
        return length;
    }
    void receive_pieces(std::span<std::byte> bytes, int from, int tag) {
        for_chunks(bytes, [&](std::byte* data, int count) {
            AMALGAM_MPI(MPI_Recv(data, count, MPI_BYTE, from, tag, handle_, MPI_STATUS_IGNORE));
        });
    }

    MPI_Comm handle_;
    std::vector<int> nodes_;
    int64_t chunk_;
    int rank_ = 0, size_ = 1;
};

}  // namespace

namespace mpi {

std::string library() {
    char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    MPI_Get_library_version(text, &length);
    const std::string whole(text, size_t(length));
    return whole.substr(0, whole.find(','));
}

void start() {
    int provided = MPI_THREAD_SINGLE;
    AMALGAM_MPI(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided));
    AMALGAM_MPI(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
    check(provided >= MPI_THREAD_SERIALIZED,
          "this MPI library does not let threads call it in turn (MPI_THREAD_SERIALIZED): use one built with threads");
}

void stop() noexcept {
#ifdef AMALGAM_LEAK_CHECK
    // Later, the library's own leaks would have no names: MPI_Finalize unloads its parts.
    __lsan_do_leak_check();
#endif
    MPI_Finalize();
}

std::unique_ptr<Communicator> world() {
    int rank = 0, size = 1;
    AMALGAM_MPI(MPI_Comm_rank(MPI_COMM_WORLD, &rank));
    AMALGAM_MPI(MPI_Comm_size(MPI_COMM_WORLD, &size));
    // A machine is known by its lowest rank.
    MPI_Comm node = MPI_COMM_NULL;
    AMALGAM_MPI(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node));
    int lowest = rank;
    AMALGAM_MPI(MPI_Bcast(&lowest, 1, MPI_INT, 0, node));
    AMALGAM_MPI(MPI_Comm_free(&node));
    std::vector<int> nodes(static_cast<size_t>(size));
    AMALGAM_MPI(MPI_Allgather(&lowest, 1, MPI_INT, nodes.data(), 1, MPI_INT, MPI_COMM_WORLD));
    return std::make_unique<MpiCommunicator>(MPI_COMM_WORLD, std::move(nodes), MpiCommunicator::default_chunk);
}

void abort(int code) {
    // If the library is stuck in another thread's call, the alarm ends this process, and the launcher the others.
    std::signal(SIGALRM, SIG_DFL);
    ::alarm(5);
    MPI_Abort(MPI_COMM_WORLD, code);
    ::_exit(code);
}

}  // namespace mpi
}  // namespace amalgam
