// The rules.
#include "tests/loss_model.h"

#include <signal.h>

#include <algorithm>

namespace refault::tests {

namespace {

constexpr std::uint64_t kPageBytes = 4096;

std::string sigbus(int code, std::size_t page) {
    return "sigbus " + std::to_string(code) + " " + std::to_string(page * kPageBytes);
}

std::string text_of(const std::set<unsigned>& values) {
    std::string text = "{";
    for (const auto value : values) text += " " + std::to_string(value);
    return text + " }";
}

}  // namespace

void ModelPage::become(unsigned value) {
    *this = ModelPage();
    now = copies = {value};
}

std::string LossModel::refused(ModelFile& file, ModelClient& client, std::size_t page, pid_t pid,
                               const Access& access, bool is_shaky, bool& is_done) {
    is_done = true;
    const bool may_be_held = client.writes && !client.rolls_back && client.held.contains(page);
    const bool is_memory_error = access.answer == sigbus(BUS_MCEERR_AR, page) + " 12";
    if (page >= file.pages.size()) {
        if (access.answer.starts_with(sigbus(BUS_ADRERR, page))) return {};
        return is_memory_error && may_be_held ? "" : "beyond the end, but " + access.answer;
    }
    auto& model = file.pages[page];
    if (is_memory_error) {
        const bool may_be_lost = model.loss != Loss::None;
        if (!may_be_lost && !may_be_held) return "a signal for a page that has a copy";
        if (is_shaky && model.loss != Loss::Certain) {
            model.is_told_unsure = true;
            return {};
        }
        if (access.why == "lost" && may_be_lost) {
            model.loss = Loss::Certain;
            model.told.insert(pid);
            return {};
        }
        if (access.why == "stale" && may_be_held) return {};
        return "SIGBUS, then rf_try says " + access.why;
    }
    if (model.loss == Loss::Certain) return "lost, but " + access.answer;
    if (!access.is_ok()) return "unexpected: " + access.answer;
    if (!is_shaky) model.loss = Loss::None;
    is_done = false;
    return {};
}

// A copy may have been made equal by the pool itself in between: then what others have stored since
// is nothing that this client would have to be told of.
static bool is_older_than_its_own(const ModelPage& page, const ModelClient& client,
                                  unsigned value) {
    const auto own = page.dirty_by.find(client.id);
    return client.writes && !client.rolls_back && own != page.dirty_by.end() &&
           !own->second.contains(value);
}

std::string LossModel::loaded(ModelFile& file, ModelClient& client, std::size_t page, pid_t pid,
                              const Access& access, bool is_shaky) {
    bool is_done = false;
    const auto wrong = refused(file, client, page, pid, access, is_shaky, is_done);
    if (is_done || !wrong.empty()) return wrong;
    auto& model = file.pages[page];
    const auto value = static_cast<unsigned>(std::stoul(access.answer.substr(3)));
    if (!model.now.contains(value))
        return "gives " + std::to_string(value) + ", allowed are " + text_of(model.now) +
               ", copies " + text_of(model.copies);
    if (is_older_than_its_own(model, client, value))
        return "its store is quietly gone: " + std::to_string(value) + ", not " +
               text_of(model.dirty_by.at(client.id));
    if (!is_shaky) model.now = {value};
    return {};
}

std::string LossModel::stored(ModelFile& file, ModelClient& client, std::size_t page,
                              unsigned value, pid_t pid, const Access& access, bool is_shaky) {
    bool is_done = false;
    const auto wrong = refused(file, client, page, pid, access, is_shaky, is_done);
    if (is_done || !wrong.empty()) return wrong;
    auto& model = file.pages[page];
    if (model.now.size() == 1 && is_older_than_its_own(model, client, *model.now.begin()))
        return "its store is quietly gone when it stores: " + text_of(model.now) + ", not " +
               text_of(model.dirty_by.at(client.id));
    if (!is_shaky) model.now.clear();
    model.now.insert(value);
    model.copies.insert(value);
    for (auto& [other, since] : model.dirty_by) since.insert(value);
    model.dirty_by[client.id] = {value};
    return {};
}

void LossModel::persisted(ModelFile& file, std::size_t page, bool is_shaky) {
    auto& model = file.pages[page];
    // Whatever it was, it is on every copy now, also what others have stored: whose region is found
    // equal is not told of what comes later.
    model.dirty_by.clear();
    if (!is_shaky && model.now.size() == 1) model.copies = model.now;
}

void LossModel::overwritten(ModelFile& file, std::size_t page, unsigned value, bool is_sure) {
    auto& model = file.pages[page];
    if (is_sure) return model.become(value);
    // Some of the copies may have it, and a lost page may work again, as zeros.
    for (const auto one : {value, 0u}) {
        model.now.insert(one);
        model.copies.insert(one);
    }
    if (model.loss == Loss::Certain) model.loss = Loss::Maybe;
    model.dirty_by.clear();
    model.is_told_unsure = true;
}

void LossModel::resized(ModelFile& file, std::size_t pages, bool is_shaky) {
    const auto before = file.pages.size();
    file.pages.resize(pages);
    for (auto page = before; page < pages && is_shaky; ++page) {
        file.pages[page].loss = Loss::Maybe;
        file.pages[page].is_told_unsure = true;
    }
}

void LossModel::forgiven(ModelFile& file, ModelClient& client, std::size_t page, bool is_shaky) {
    if (!is_shaky) client.held.erase(page);
    if (page < file.pages.size()) file.pages[page].dirty_by.erase(client.id);
}

void LossModel::failed(ModelFile& file, std::size_t page, const Hit& hit,
                       const std::vector<ModelClient*>& writers) {
    auto& model = file.pages[page];
    if (model.loss == Loss::Certain) return;
    if (hit.is_exact && !hit.is_hit) return;
    if (hit.copies_left <= 0) {
        // Where it may have been lost before, it may be the same loss still, or one told to nobody.
        const bool is_new = model.loss == Loss::None;
        if (is_new) model.told.clear();
        model.is_told_unsure = !is_new || !hit.is_exact;
        model.loss = hit.is_exact ? Loss::Certain : Loss::Maybe;
        if (hit.is_exact) return;
    }
    if (hit.is_exact && !hit.is_primary) return;
    if (hit.is_exact) model.now.clear();
    model.now.insert(model.copies.begin(), model.copies.end());
    for (auto* writer : writers) writer->held.insert(page);
}

void LossModel::returned(ModelFile& file, std::size_t page) {
    auto& model = file.pages[page];
    if (model.loss != Loss::Certain) return;
    model.loss = Loss::Maybe;
    model.copies.insert(model.now.begin(), model.now.end());
    model.is_told_unsure = true;
}

std::string LossModel::listed(ModelFile& file, std::size_t page, bool is_listed) {
    auto& model = file.pages[page];
    if (is_listed && model.loss == Loss::None) return "is listed as lost and had a copy";
    if (!is_listed && model.loss == Loss::Certain) return "is lost and not listed";
    model.loss = is_listed ? Loss::Certain : Loss::None;
    return {};
}

}  // namespace refault::tests
