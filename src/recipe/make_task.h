// From the tensors that the members of a part have under one name to a task.
#pragma once
#include <optional>
#include <vector>

#include "src/plan/tensor_task.h"
#include "src/recipe/notes.h"
#include "src/recipe/part.h"
#include "src/recipe/resolve.h"

namespace amalgam {

class TaskMaker {
  public:
    TaskMaker(const Recipe& recipe, const MethodInfo& method, const ResolveOptions& options,
              const std::vector<OpenModel>& models, Notes& notes)
        : recipe_(recipe), method_(method), options_(options), models_(models), notes_(notes) {}

    /// Nothing if the tensor is an optional buffer that some model lacks. Throws Error naming tensor and models.
    std::optional<TensorTask> make(const OutputPart& part, TensorRow row) const;

  private:
    bool complete(const OutputPart& part, TensorRow& row) const;
    void make_equal(const OutputPart& part, const TensorRow& row, TensorTask& task) const;
    void fit_shapes(const OutputPart& part, TensorRow& row, TensorTask& task) const;
    void cut_rows(const OutputPart& part, TensorRow& row, TensorTask& task) const;
    void leave_out(const OutputPart& part, TensorRow& row, int member, std::string_view why) const;
    bool differ_in_vocabulary(const OutputPart& part, const TensorRow& row) const;
    void fill(const OutputPart& part, const TensorRow& row, TensorTask& task) const;
    void choose_kind(TensorTask& task) const;
    void check_weights(const OutputPart& part, const TensorTask& task) const;
    void check_della(const OutputPart& part, const PartMember& member, const TensorRow& row,
                     const FieldValues& fields) const;

    TaskInput input(const PartMember& member, const TensorRow& row, const TensorInfo& tensor, bool with_fields) const;
    const std::string& reference(const PartMember& member) const { return models_[member.model].reference; }
    std::string place(const OutputPart& part, int member) const;
    std::string shapes_text(const OutputPart& part, const TensorRow& row) const;

    const Recipe& recipe_;
    const MethodInfo& method_;
    const ResolveOptions& options_;
    const std::vector<OpenModel>& models_;
    Notes& notes_;
};

}  // namespace amalgam
