// Messages between single ranks, by MPI: those that are waited for together, and those that nobody waits for.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <list>
#include <set>
#include <utility>

#include "src/comm/mpi_communicator.h"
#include "src/comm/patience.h"

namespace amalgam {
namespace {

/// Messages of its own communicator, where MPI keeps those of a pair in order whatever their tags. Tags tell their length, since
/// Open MPI 4.1 cuts messages that are too long without saying so.
class MpiTransport : public Transport {
  public:
    MpiTransport(MPI_Comm parent, int64_t chunk) : chunk_(uint64_t(chunk)) {
        AMALGAM_MPI(MPI_Comm_dup(parent, &handle_));
        AMALGAM_MPI(MPI_Comm_rank(handle_, &rank_));
        AMALGAM_MPI(MPI_Comm_size(handle_, &size_));
    }
    ~MpiTransport() override {
        // After an error others may not come here: the communicator stays, and what still comes has no place.
        for (size_t i = 0; i < requests_.size(); ++i) {
            if (requests_[i] == MPI_REQUEST_NULL) continue;
            if (expected_[i] >= 0) MPI_Cancel(&requests_[i]);
            MPI_Request_free(&requests_[i]);
        }
        if (requests_.empty()) MPI_Comm_free(&handle_);
    }

    void start(std::span<const Transfer> transfers) override {
        check(!started_, "a group of messages starts before the one before it has ended (a bug in the program)");
        for (const Transfer& transfer : transfers)
            check(0 <= transfer.peer && transfer.peer < size_,
                  "a message to or from rank {} of a group of {} (a bug in the program)", transfer.peer, size_);
        started_ = true;
        // Receives first: what arrives then has its place.
        for (const auto direction : {Transfer::Direction::receive, Transfer::Direction::send})
            for (const Transfer& transfer : transfers)
                if (transfer.direction == direction) start(transfer);
    }

    void wait() override {
        check(started_, "wait() without a group of messages (a bug in the program)");
        std::vector<int> indices(requests_.size());
        std::vector<MPI_Status> statuses(requests_.size());
        Patience patience(seconds_);
        for (size_t open = requests_.size(); open > 0;) {
            int done = 0;
            const int result =
                MPI_Testsome(int(requests_.size()), requests_.data(), &done, indices.data(), statuses.data());
            if (result != MPI_ERR_IN_STATUS) mpi::check_result(result, "MPI_Testsome", __FILE__, __LINE__);
            for (int i = 0; i < done; ++i)
                check_message(statuses[size_t(i)], result == MPI_ERR_IN_STATUS, expected_[size_t(indices[size_t(i)])]);
            open -= size_t(done);
            if (done > 0) {
                patience.moved();
                continue;
            }
            check(patience.wait(),
                  "rank {} waited {} seconds for messages, and {} of {} did not come or go: another rank hangs or has "
                  "ended; see its messages. AMALGAM_NETWORK_SECONDS changes the limit",
                  rank_, seconds_, open, requests_.size());
        }
        requests_.clear();
        expected_.clear();
        started_ = false;
    }

  private:
    void start(const Transfer& transfer) {
        auto* data = static_cast<std::byte*>(transfer.data);
        const bool receive = transfer.direction == Transfer::Direction::receive;
        uint64_t left = transfer.bytes;
        // An empty message travels too: lengths that do not match are found out.
        do {
            const int bytes = int(std::min(left, chunk_));
            MPI_Request request = MPI_REQUEST_NULL;
            if (receive)
                AMALGAM_MPI(MPI_Irecv(data, bytes, MPI_BYTE, transfer.peer, MPI_ANY_TAG, handle_, &request));
            else
                AMALGAM_MPI(MPI_Isend(data, bytes, MPI_BYTE, transfer.peer, tag_of(bytes), handle_, &request));
            requests_.push_back(request);
            expected_.push_back(receive ? bytes : -1);
            if (bytes > 0) data += bytes;
            left -= uint64_t(bytes);
        } while (left > 0);
    }

    void check_message(const MPI_Status& status, bool has_error, int expected) const {
        if (has_error) mpi::check_result(status.MPI_ERROR, "a message of a group", __FILE__, __LINE__);
        if (expected < 0) return;
        int bytes = 0;
        AMALGAM_MPI(MPI_Get_count(&status, MPI_BYTE, &bytes));
        check(bytes == expected && status.MPI_TAG == tag_of(expected),
              "rank {} sent {} bytes or more where rank {} expects {} (a bug in the program)", status.MPI_SOURCE, bytes,
              rank_, expected);
    }
    /// MPI has tags up to 32,767 at least.
    static int tag_of(int bytes) { return bytes % 32749; }

    MPI_Comm handle_ = MPI_COMM_NULL;
    uint64_t chunk_;
    double seconds_ = network_seconds();
    int rank_ = 0, size_ = 1;
    bool started_ = false;
    std::vector<MPI_Request> requests_;
    std::vector<int> expected_;  // bytes of a piece that is received; -1 for those sent
};

/// A message on its way. Requests refer to its members: it stays where it is.
struct Moving {
    int peer = 0;
    uint64_t length = 0;
    std::string bytes;
    std::vector<MPI_Request> requests;
};

bool has_moved(Moving& message) {
    int done = 0;
    AMALGAM_MPI(MPI_Testall(int(message.requests.size()), message.requests.data(), &done, MPI_STATUSES_IGNORE));
    return done != 0;
}

class MpiMailbox : public Mailbox {
  public:
    MpiMailbox(MPI_Comm handle, int tag, int64_t chunk) : handle_(handle), tag_(tag), chunk_(uint64_t(chunk)) {}
    ~MpiMailbox() override {
        for (Moving& message : incoming_)
            for (MPI_Request& request : message.requests)
                if (request != MPI_REQUEST_NULL) MPI_Cancel(&request);
        // MPI may read and write these until it ends.
        static std::list<Moving> abandoned;
        abandoned.splice(abandoned.end(), outgoing_);
        abandoned.splice(abandoned.end(), incoming_);
    }

    void send(std::string bytes, int to) override {
        outgoing_.remove_if(has_moved);
        Moving& message = outgoing_.emplace_back();
        message.peer = to;
        message.length = bytes.size();
        message.bytes = std::move(bytes);
        AMALGAM_MPI(MPI_Isend(&message.length, 1, MPI_UINT64_T, to, tag_, handle_, &message.requests.emplace_back()));
        for_pieces(message, [&](char* data, int count) {
            AMALGAM_MPI(MPI_Isend(data, count, MPI_BYTE, to, tag_, handle_, &message.requests.emplace_back()));
        });
    }

    std::optional<Letter> receive() override {
        outgoing_.remove_if(has_moved);
        while (begin_one()) {
        }
        std::set<int> slow;  // their later messages come later
        for (auto message = incoming_.begin(); message != incoming_.end(); ++message) {
            if (slow.contains(message->peer)) continue;
            if (!has_moved(*message)) {
                slow.insert(message->peer);
                continue;
            }
            Letter letter{message->peer, std::move(message->bytes)};
            incoming_.erase(message);
            return letter;
        }
        return std::nullopt;
    }

    bool flush(double seconds) override {
        for (Patience patience(seconds);;) {
            outgoing_.remove_if(has_moved);
            if (outgoing_.empty()) return true;
            if (!patience.wait()) return false;
        }
    }

  private:
    template <class Use>
    void for_pieces(Moving& message, const Use& use) {
        for (uint64_t at = 0; at < message.length; at += chunk_)
            use(message.bytes.data() + at, int(std::min(chunk_, message.length - at)));
    }

    /// Takes the length of a message, which is there at once, and gives its pieces a place.
    bool begin_one() {
        int there = 0;
        MPI_Status status;
        AMALGAM_MPI(MPI_Iprobe(MPI_ANY_SOURCE, tag_, handle_, &there, &status));
        if (!there) return false;
        Moving& message = incoming_.emplace_back();
        message.peer = status.MPI_SOURCE;
        AMALGAM_MPI(MPI_Recv(&message.length, 1, MPI_UINT64_T, message.peer, tag_, handle_, MPI_STATUS_IGNORE));
        message.bytes.resize(message.length);
        for_pieces(message, [&](char* data, int count) {
            AMALGAM_MPI(
                MPI_Irecv(data, count, MPI_BYTE, message.peer, tag_, handle_, &message.requests.emplace_back()));
        });
        return true;
    }

    MPI_Comm handle_;
    int tag_;
    uint64_t chunk_;
    std::list<Moving> outgoing_, incoming_;
};

}  // namespace

namespace mpi {

void check_result(int result, const char* call, const char* file, int line) {
    if (result == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(result, text, &length);
    fail("{} failed in {}:{} ({}): another rank may have ended; see the messages before this one", call, file, line,
         text);
}

std::unique_ptr<Transport> transport(int communicator, int64_t chunk) {
    return std::make_unique<MpiTransport>(MPI_Comm_f2c(communicator), chunk);
}

std::unique_ptr<Mailbox> mailbox(int communicator, int tag, int64_t chunk) {
    return std::make_unique<MpiMailbox>(MPI_Comm_f2c(communicator), tag, chunk);
}

}  // namespace mpi
}  // namespace amalgam
