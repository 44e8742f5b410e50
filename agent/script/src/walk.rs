//! Examines the syntax tree of a script. It gives the author early errors and finds literal paths; it is not a security
//! boundary. Frozen code is bounded by its engine, which provides nothing else.

use std::collections::{BTreeMap, BTreeSet};

use rhai::{AST, ASTFlags, ASTNode, Expr, FnCallExpr, FnPtr, Position, Stmt};

/// Stands for the unknown number of arguments of a call through a function pointer.
pub const ANY: usize = usize::MAX;

/// Everything that a function, and each function it calls, mentions.
#[derive(Debug, Default)]
pub struct Mentions {
    /// Functions called, by name and number of arguments without a receiver, with the first position.
    pub calls: BTreeMap<(String, usize), Position>,
    /// Literal first arguments of `get`.
    pub paths: BTreeSet<String>,
    /// Properties, literal indices and other texts: `req.body`, `req["body"]`, `"body"`.
    pub properties: BTreeSet<String>,
    /// Variables that are neither parameters nor locals of their function.
    pub free: BTreeMap<String, Position>,
    /// Position of the first computed name, which makes the called function or read path unknown.
    pub computed: Option<Position>,
    /// The script functions reached, by name and number of parameters.
    pub reached: BTreeSet<(String, usize)>,
    /// Number of parameters and locals of the reached functions.
    pub declared: usize,
    /// Number of places that put a value into another.
    pub builds: usize,
    /// Whether any code may run more than once.
    pub repeats: bool,
    /// Maximum nesting depth of expressions and statements, and its position.
    pub deepest: (usize, Position),
}

/// Everything that the function `name` of `functions` reaches.
pub fn reachable(functions: &AST, name: &str) -> Mentions {
    let mut mentions = Mentions::default();
    let mut open: Vec<String> = vec![name.to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(next) = open.pop() {
        if !seen.insert(next.clone()) {
            continue;
        }
        for (params, variables) in signatures(functions, &next) {
            mentions.reached.insert((next.clone(), params));
            mentions.declared += params;
            let alone = only(functions, |n, p| n == next && p == params);
            let mut visitor = Visitor {
                mentions: &mut mentions,
                locals: variables,
                variables: Vec::new(),
                names: Vec::new(),
            };
            alone.walk(&mut |nodes: &[ASTNode<'_>]| {
                if let Some(node) = nodes.last() {
                    visitor.depth(nodes, node.position());
                    visitor.node(node);
                }
                true
            });
            open.extend(visitor.finish());
        }
    }
    // A recursive function is one function, but it repeats.
    let calls_itself = mentions
        .reached
        .iter()
        .any(|(name, _)| mentions.calls.keys().any(|(called, _)| called == name));
    mentions.repeats |= mentions.reached.len() > 1 || calls_itself;
    mentions
}

/// Keeps only the selected functions. (`clone_functions_only_filtered` of Rhai 1.27 ignores its filter: merging into an empty
/// module copies everything.)
pub fn only(functions: &AST, keep: impl Fn(&str, usize) -> bool) -> AST {
    let mut some = functions.clone_functions_only();
    some.retain_functions(|_, _, name, params| keep(name, params));
    some
}

/// The functions with this name: number and names of their parameters.
fn signatures(functions: &AST, name: &str) -> Vec<(usize, BTreeSet<String>)> {
    functions
        .iter_functions()
        .filter(|f| f.name == name)
        .map(|f| (f.params.len(), f.params.iter().map(|p| (*p).to_owned()).collect()))
        .collect()
}

struct Visitor<'a> {
    mentions: &'a mut Mentions,
    locals: BTreeSet<String>,
    variables: Vec<(String, Position)>,
    names: Vec<String>,
}

impl Visitor<'_> {
    fn node(&mut self, node: &ASTNode<'_>) {
        self.nesting(node);
        match node {
            ASTNode::Stmt(Stmt::Var(parts, _, _)) => {
                self.mentions.declared += 1;
                self.locals.insert(parts.0.name.to_string());
            }
            ASTNode::Stmt(Stmt::For(parts, _)) => {
                self.mentions.declared += 2;
                self.locals.insert(parts.0.name.to_string());
                self.locals
                    .extend(parts.1.as_ref().map(|counter| counter.name.to_string()));
            }
            ASTNode::Stmt(Stmt::TryCatch(flow, _)) => {
                if let Expr::Variable(name, _, _) = &flow.expr {
                    self.mentions.declared += 1;
                    self.locals.insert(name.1.to_string());
                }
            }
            ASTNode::Stmt(Stmt::FnCall(call, position)) | ASTNode::Expr(Expr::FnCall(call, position)) => {
                self.call(call, *position);
            }
            // `f.call(x)` calls a value, which is known only if it is a closure written here.
            ASTNode::Expr(Expr::MethodCall(call, position))
                if call.name != "call" && call.name != "curry" =>
            {
                self.called(call.name.as_str(), call.args.len() + 1, *position);
                self.called(call.name.as_str(), call.args.len(), *position);
            }
            // The only custom syntax assigns to a state.
            ASTNode::Expr(Expr::Custom(_, position)) => self.called("set", 2, *position),
            ASTNode::Expr(Expr::Variable(name, _, position)) => {
                self.variables.push((name.1.to_string(), *position))
            }
            ASTNode::Expr(Expr::Property(name, _)) => {
                self.mentions.properties.insert(name.2.to_string());
            }
            ASTNode::Expr(Expr::StringConstant(text, _)) => {
                self.mentions.properties.insert(text.to_string());
            }
            ASTNode::Expr(Expr::DynamicConstant(value, _)) => {
                if let Some(function) = value.read_lock::<FnPtr>() {
                    self.names.push(function.fn_name().to_owned());
                }
            }
            _ => {}
        }
    }

    /// Counts code that may create nested, and so deep, values.
    fn nesting(&mut self, node: &ASTNode<'_>) {
        const BUILDERS: [&str; 3] = ["insert", "map", "push"];
        match node {
            ASTNode::Stmt(Stmt::While(..) | Stmt::Do(..) | Stmt::For(..)) => self.mentions.repeats = true,
            ASTNode::Expr(Expr::Array(..) | Expr::Map(..)) => self.mentions.builds += 1,
            // Assignment to a part of a value: `a[0] = a`, `m.x = m`.
            ASTNode::Stmt(Stmt::Assignment(parts)) if !matches!(parts.1.lhs, Expr::Variable(..)) => {
                self.mentions.builds += 1;
            }
            ASTNode::Stmt(Stmt::FnCall(call, _))
            | ASTNode::Expr(Expr::FnCall(call, _) | Expr::MethodCall(call, _))
                if BUILDERS.contains(&call.name.as_str()) =>
            {
                self.mentions.builds += 1;
            }
            _ => {}
        }
    }

    /// Nodes that the parser inserts to convert between statement and expression do not count as a level.
    fn depth(&mut self, nodes: &[ASTNode<'_>], position: Position) {
        let wrapper =
            |n: &&ASTNode<'_>| matches!(n, ASTNode::Stmt(Stmt::Expr(_)) | ASTNode::Expr(Expr::Stmt(_)));
        let depth = nodes.len() - nodes.iter().filter(wrapper).count();
        if depth > self.mentions.deepest.0 {
            self.mentions.deepest = (depth, position);
        }
    }

    fn call(&mut self, call: &FnCallExpr, position: Position) {
        match call.name.as_str() {
            "Fn" => match call
                .args
                .first()
                .and_then(|a| a.get_literal_value(None))
                .and_then(|v| v.into_string().ok())
            {
                Some(name) => self.called(&name, ANY, position),
                None => self.computed(position),
            },
            "get" => match call
                .args
                .first()
                .and_then(|a| a.get_literal_value(None))
                .and_then(|v| v.into_string().ok())
            {
                Some(path) if call.args.len() == 1 => {
                    self.mentions.paths.insert(path);
                    self.called("get", 1, position);
                }
                _ if call.args.len() == 1 => self.computed(position),
                _ => self.called("get", call.args.len(), position),
            },
            "curry" | "call" => {}
            name => self.called(name, call.args.len(), position),
        }
    }

    fn called(&mut self, name: &str, args: usize, position: Position) {
        let name = super::kinds::typed(name);
        self.mentions
            .calls
            .entry((name.to_owned(), args))
            .or_insert(position);
        self.names.push(name.to_owned());
    }

    fn computed(&mut self, position: Position) {
        self.mentions.computed.get_or_insert(position);
    }

    /// Resolves the recorded variables once all locals are known; returns the function names to look up next.
    fn finish(self) -> Vec<String> {
        for (name, position) in self.variables {
            if !self.locals.contains(&name) && name != "this" {
                self.mentions.free.entry(name).or_insert(position);
            }
        }
        self.names
    }
}

/// How a script uses closures.
#[derive(Debug, Default)]
pub struct Closures {
    /// Whether any closure captures variables.
    pub capture: bool,
    /// Position of an explicit `curry` call: its arguments would be copied on each call, doubling in size.
    pub curry: Option<Position>,
}

/// Examines the closures in statements and functions.
pub fn closures(ast: &AST) -> Closures {
    let mut closures = Closures::default();
    ast.walk(&mut |nodes: &[ASTNode<'_>]| {
        let by_hand = match nodes.last() {
            Some(ASTNode::Expr(Expr::MethodCall(call, position))) if call.name == "curry" => Some(*position),
            Some(
                ASTNode::Stmt(Stmt::FnCall(call, position)) | ASTNode::Expr(Expr::FnCall(call, position)),
            ) if call.name == "curry" => {
                closures.capture = true;
                // The parser's own `curry` call for a closure starts with the function itself.
                (!matches!(call.args.first(), Some(Expr::DynamicConstant(..)))).then_some(*position)
            }
            _ => None,
        };
        closures.curry = closures.curry.or(by_hand);
        true
    });
    closures
}

/// Names of map entries used in code.
#[derive(Clone, Debug, Default)]
pub struct DefinedNames {
    written: BTreeSet<String>,
    /// Whether some names are known only at run time.
    computed: bool,
}

impl DefinedNames {
    fn add(&mut self, step: &Expr) {
        match step {
            Expr::Property(name, _) => drop(self.written.insert(name.2.to_string())),
            Expr::StringConstant(name, _) => drop(self.written.insert(name.to_string())),
            Expr::IntegerConstant(..) => {}
            _ => self.computed = true,
        }
    }

    /// Adds other names. Above the limit, any name counts as used.
    fn extend(&mut self, other: Self) {
        const MAX: usize = 1_000;
        self.written.extend(other.written);
        self.computed |= other.computed || MAX < self.written.len();
        if self.computed {
            self.written.clear();
        }
    }

    fn overlap(&self, other: &Self) -> bool {
        let any = |names: &Self| names.computed || !names.written.is_empty();
        self.computed && any(other)
            || other.computed && any(self)
            || !self.written.is_disjoint(&other.written)
    }
}

/// Names of map entries that code reads and assigns.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    assigned: DefinedNames,
    read: DefinedNames,
}

impl Uses {
    /// Collects the names in statements and functions. An assignment below a state (a chain that begins with a state, as told
    /// by `is_state`) writes to the state, not to a map, and is left out.
    pub fn of(ast: &AST, is_state: impl Fn(&str) -> bool) -> Self {
        let mut uses = Self::default();
        let mut last_steps = BTreeSet::new();
        ast.walk(&mut |nodes: &[ASTNode<'_>]| {
            if let Some(ASTNode::Stmt(Stmt::Assignment(parts))) = nodes.last()
                && !matches!(parts.1.lhs, Expr::Variable(..))
            {
                let last = last_step(&parts.1.lhs);
                last_steps.insert(std::ptr::from_ref(last).addr());
                if !is_below_state(&parts.1.lhs, &is_state) {
                    uses.assigned.add(last);
                }
            }
            true
        });
        ast.walk(&mut |nodes: &[ASTNode<'_>]| {
            if let Some(ASTNode::Expr(chain @ (Expr::Dot(..) | Expr::Index(..)))) = nodes.last()
                && is_below_state(chain, &is_state)
            {
                last_steps.extend(plain_steps(chain).map(|step| std::ptr::from_ref(step).addr()));
            }
            true
        });
        ast.walk(&mut |nodes: &[ASTNode<'_>]| {
            let step = match nodes.last() {
                Some(ASTNode::Expr(step @ (Expr::Property(..) | Expr::StringConstant(..)))) => Some(*step),
                Some(ASTNode::Expr(Expr::Index(parts, ..))) => Some(first_step(&parts.rhs)),
                _ => None,
            };
            if let Some(step) = step.filter(|step| !last_steps.contains(&std::ptr::from_ref(*step).addr())) {
                uses.read.add(step);
            }
            true
        });
        uses
    }

    /// Adds the names used in other code.
    pub fn extend(&mut self, other: Self) {
        self.assigned.extend(other.assigned);
        self.read.extend(other.read);
    }

    /// Whether no assigned name is also read, so that the name alone tells a write from a read.
    pub fn are_apart(&self) -> bool {
        !self.assigned.overlap(&self.read)
    }

    /// Whether any name is read.
    pub fn read_any(&self) -> bool {
        self.read.computed || !self.read.written.is_empty()
    }

    /// Whether this name is assigned.
    pub fn assigns(&self, name: &str) -> bool {
        self.assigned.computed || self.assigned.written.contains(name)
    }
}

/// Whether a chain begins with a state and calls no method.
fn is_below_state(chain: &Expr, is_state: impl Fn(&str) -> bool) -> bool {
    match chain {
        Expr::Dot(parts, ..) | Expr::Index(parts, ..) => {
            let begins = matches!(&parts.lhs, Expr::Variable(name, ..) if is_state(&name.1));
            begins && plain_steps(chain).all(|step| !matches!(step, Expr::MethodCall(..)))
        }
        _ => false,
    }
}

/// The steps of a chain after its first part.
fn plain_steps(chain: &Expr) -> impl Iterator<Item = &Expr> {
    let mut next = rest(chain);
    std::iter::from_fn(move || {
        let (step, ends) = next.take()?;
        match step {
            Expr::Dot(parts, ..) | Expr::Index(parts, ..) if !ends => {
                next = rest(step);
                Some(&parts.lhs)
            }
            step => Some(step),
        }
    })
}

/// The part after the first part of a chain, and whether the chain ends there.
fn rest(chain: &Expr) -> Option<(&Expr, bool)> {
    match chain {
        Expr::Dot(parts, flags, _) | Expr::Index(parts, flags, _) => {
            Some((&parts.rhs, flags.contains(ASTFlags::BREAK)))
        }
        _ => None,
    }
}

fn last_step(chain: &Expr) -> &Expr {
    match chain {
        Expr::Dot(parts, ..) | Expr::Index(parts, ..) => last_step(&parts.rhs),
        step => step,
    }
}

/// The first index in the expression after `[`.
fn first_step(rest: &Expr) -> &Expr {
    match rest {
        Expr::Dot(parts, flags, _) | Expr::Index(parts, flags, _) if !flags.contains(ASTFlags::BREAK) => {
            &parts.lhs
        }
        step => step,
    }
}

/// Whether the last statement names a value, so that a result of `()` is the value there.
pub fn names_value(ast: &AST) -> bool {
    let is_read = |name: &str| ["get", "reveal"].contains(&name);
    match ast.statements().last() {
        Some(Stmt::FnCall(call, _)) => is_read(&call.name),
        Some(Stmt::Expr(expression)) => match &**expression {
            Expr::FnCall(call, _) => is_read(&call.name),
            Expr::Variable(..) => true,
            chain @ (Expr::Dot(..) | Expr::Index(..)) => !matches!(last_step(chain), Expr::MethodCall(..)),
            _ => false,
        },
        _ => false,
    }
}

/// Whether this is the name of a variable or parameter, and not of a function, in the code.
pub fn is_declared(ast: &AST, name: &str) -> bool {
    let mut declared = ast.iter_functions().any(|f| f.params.contains(&name));
    ast.walk(&mut |nodes: &[ASTNode<'_>]| {
        if let Some(ASTNode::Stmt(Stmt::Var(parts, _, _))) = nodes.last() {
            declared |= parts.0.name == name;
        }
        true
    });
    declared && !ast.iter_functions().any(|f| f.name == name)
}

/// The names of all variables and parameters that code declares.
pub fn declared(ast: &AST) -> BTreeSet<String> {
    let params = ast
        .iter_functions()
        .flat_map(|f| f.params.into_iter().map(str::to_owned).collect::<Vec<_>>());
    let mut names: BTreeSet<String> = params.collect();
    ast.walk(&mut |nodes: &[ASTNode<'_>]| {
        match nodes.last() {
            Some(ASTNode::Stmt(Stmt::Var(parts, ..))) => drop(names.insert(parts.0.name.to_string())),
            Some(ASTNode::Stmt(Stmt::For(parts, _))) => {
                names.insert(parts.0.name.to_string());
                names.extend(parts.1.as_ref().map(|counter| counter.name.to_string()));
            }
            Some(ASTNode::Stmt(Stmt::TryCatch(flow, _))) => {
                if let Expr::Variable(name, ..) = &flow.expr {
                    names.insert(name.1.to_string());
                }
            }
            _ => {}
        }
        true
    });
    names
}

/// Name and number of parameters of each function that a submission defines, except closures.
pub fn defined(ast: &AST) -> Vec<(String, usize)> {
    ast.iter_functions()
        .filter(|f| !f.name.starts_with("anon$"))
        .map(|f| (f.name.to_owned(), f.params.len()))
        .collect()
}
