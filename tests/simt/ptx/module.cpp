/*
 * module.cpp - words of PTX, its types, and the index of a module: where its functions stand, its
 * variables and their first values. Bodies are read later, by compile.cpp.
 */
#include <cctype>
#include <cstdlib>

#include "ptx.h"

namespace simt
{
namespace ptx
{

static const struct {
    const char *name;
    Type type;
    unsigned bytes;
} types[] = {
    {"none", NONE, 8}, {"pred", PRED, 1},  {"b8", B8, 1},       {"u8", U8, 1},
    {"s8", S8, 1},     {"b16", B16, 2},    {"u16", U16, 2},     {"s16", S16, 2},
    {"f16", F16, 2},   {"bf16", BF16, 2},  {"b32", B32, 4},     {"u32", U32, 4},
    {"s32", S32, 4},   {"f32", F32, 4},    {"f16x2", F16X2, 4}, {"bf16x2", BF16X2, 4},
    {"tf32", TF32, 4}, {"b64", B64, 8},    {"u64", U64, 8},     {"s64", S64, 8},
    {"f64", F64, 8},   {"b128", B128, 16},
};

Type type_of(const std::string &name)
{
    for (size_t i = 1; i < sizeof types / sizeof *types; i++)
        if (name == types[i].name) return types[i].type;
    return NONE;
}

unsigned bytes_of(Type t) { return types[t].bytes; }

/* Words */

static bool in_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '.' || c == '%';
}

static void skip_space(const std::string &text, size_t &at, int &line)
{
    while (at < text.size()) {
        if (text[at] == '\n') line++;
        if (isspace((unsigned char)text[at])) {
            at++;
        } else if (text.compare(at, 2, "//") == 0) {
            while (at < text.size() && text[at] != '\n') at++;
        } else if (text.compare(at, 2, "/*") == 0) {
            while (at < text.size() && text.compare(at, 2, "*/") != 0) line += text[at++] == '\n';
            at += 2;
        } else {
            return;
        }
    }
}

std::string Words::next()
{
    skip_space(text, at, line);
    const size_t from = at;
    if (at >= text.size()) return "";
    if (text[at] == '"') {
        const size_t end = text.find('"', at + 1);
        if (end == std::string::npos) throw Unreadable{"a string without an end", line};
        at = end + 1;
        return text.substr(from, at - from);
    }
    for (;;) { /* "::" belongs to a word, as in shared::cta; a label's ':' does not */
        while (at < text.size() && in_word(text[at])) at++;
        if (at == from || text.compare(at, 2, "::") != 0) break;
        at += 2;
    }
    if (at == from) at++;
    return text.substr(from, at - from);
}

std::string Words::peek()
{
    const size_t a = at;
    const int l = line;
    const std::string w = next();

    at = a;
    line = l;
    return w;
}

void Words::skip_line()
{
    while (at < text.size() && text[at] != '\n') at++;
}

/* Behind the brace that closes the one just read. */
static void skip_braces(Words &w)
{
    for (int depth = 1; depth;) {
        skip_space(w.text, w.at, w.line);
        if (w.at >= w.text.size()) throw Unreadable{"a brace that is never closed", w.line};
        const char c = w.text[w.at];
        if (c == '"') {
            w.next();
            continue;
        }
        depth += (c == '{') - (c == '}');
        w.at++;
    }
}

/* Declarations */

static size_t number(Words &w)
{
    const std::string s = w.next();
    char *end;
    const size_t n = strtoull(s.c_str(), &end, 0);

    if (s.empty() || *end) throw Unreadable{"'" + s + "' is no number", w.line};
    return n;
}

/* What a pointer parameter points to (.ptr .global .align 4) is of no use here, and passed over. */
std::string declare(Words &w, Variable &v, std::vector<std::string> &values)
{
    std::string word, name;
    size_t n = 1;

    for (word = w.next(); word[0] == '.'; word = w.next()) {
        if (word == ".align") v.align = number(w);
        else if (type_of(word.substr(1)) != NONE) v.type = type_of(word.substr(1));
        else if (word != ".ptr" && word != ".global" && word != ".shared" && word != ".const")
            throw Unreadable{"unknown word '" + word + "' in a declaration", w.line};
    }
    name = word;
    while (w.peek() == "[") {
        w.next();
        if (w.peek() == "]") v.dynamic = true;
        else n *= number(w);
        w.next();
    }
    if (v.align == 1) v.align = bytes_of(v.type);
    v.bytes = v.dynamic ? 0 : n * bytes_of(v.type);
    if (w.peek() != "=") return name;
    w.next();
    const bool list = w.peek() == "{";
    if (list) w.next();
    for (;;) {
        const std::string s = w.next();
        values.push_back(s == "-" ? s + w.next() : s);
        if (!isdigit((unsigned char)values.back().back()) &&
            !isxdigit((unsigned char)values.back().back()))
            throw Unreadable{"the first value '" + values.back() + "' is no number", w.line};
        const std::string after = list ? w.next() : "}";
        if (after == "}") return name;
        if (after != ",") throw Unreadable{"'" + after + "' between first values", w.line};
    }
}

static uint64_t bits_of(const std::string &s)
{
    const bool hex = s.size() > 2 && s[0] == '0' && strchr("fFdD", s[1]);

    return hex           ? strtoull(s.c_str() + 2, nullptr, 16)
           : s[0] == '-' ? (uint64_t)strtoll(s.c_str(), nullptr, 0)
                         : strtoull(s.c_str(), nullptr, 0);
}

static void variable(Module &m, Words &w, Space space)
{
    Variable v;
    std::vector<std::string> values;
    v.space = space;
    const std::string name = declare(w, v, values);

    if (w.next() != ";") throw Unreadable{"no ';' behind the variable " + name, w.line};
    if (space == Space::global || space == Space::constant) {
        std::vector<char> &data = space == Space::global ? m.data : m.constants;
        v.at = (data.size() + v.align - 1) / v.align * v.align;
        data.resize(v.at + v.bytes);
        for (size_t i = 0; i < values.size() && (i + 1) * bytes_of(v.type) <= v.bytes; i++) {
            const uint64_t bits = bits_of(values[i]);
            memcpy(&data[v.at + i * bytes_of(v.type)], &bits, bytes_of(v.type));
        }
    }
    m.variables[name] = v;
}

static void function(Module &m, Words &w, bool entry)
{
    Body b;

    b.at = w.at;
    b.line = w.line;
    b.entry = entry;
    if (w.peek() == "(")
        while (w.next() != ")") {
        }
    const std::string name = w.next();
    for (;;) {
        const std::string s = w.next();
        if (s.empty()) throw Unreadable{"the text ends in the head of " + name, w.line};
        if (s == ";") return; /* a prototype */
        if (s == "{") break;
    }
    m.bodies[name] = b;
    skip_braces(w);
}

static void directive(Module &m, Words &w, const std::string &s)
{
    if (s == ".version" || s == ".target" || s == ".address_size") {
        w.skip_line();
    } else if (s == ".file") {
        const int n = (int)number(w);
        const std::string path = w.next();
        m.files[n] = base_name(path.substr(1, path.size() - 2).c_str());
        w.skip_line();
    } else if (s == ".section") {
        while (w.next() != "{") {
        }
        skip_braces(w);
    } else if (s == ".entry" || s == ".func") {
        function(m, w, s == ".entry");
    } else if (s == ".global") {
        variable(m, w, Space::global);
    } else if (s == ".const") {
        variable(m, w, Space::constant);
    } else if (s == ".shared") {
        variable(m, w, Space::shared);
    } else if (s != ".visible" && s != ".weak" && s != ".extern" && s != ".common") {
        throw Unreadable{"unknown directive '" + s + "'", w.line};
    }
}

void index_module(Module &m)
{
    if (m.indexed) return;
    m.indexed = true;
    Words w(m.text);
    try {
        for (std::string s = w.next(); !s.empty(); s = w.next()) directive(m, w, s);
    } catch (const Unreadable &u) {
        m.problem = u.why + ", line " + std::to_string(u.line) + " of the PTX";
    }
}

} // namespace ptx
} // namespace simt
