-- As the first version left it: one message to two, of which one was delivered to, and another.
PRAGMA auto_vacuum = incremental;
PRAGMA journal_mode = wal;
PRAGMA user_version = 1;
CREATE TABLE account (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    seen INTEGER NOT NULL,
    starts INTEGER NOT NULL DEFAULT 0,
    back_off_until INTEGER,
    back_off_why TEXT
) STRICT;
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    due_at INTEGER,
    done_at INTEGER,
    waiting_since INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,
    send_at INTEGER,
    expires_at INTEGER,
    reverse_path TEXT,
    message_id TEXT NOT NULL,
    facts INTEGER NOT NULL,
    dsn TEXT,
    origin TEXT NOT NULL,
    octets INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    segment TEXT,
    place INTEGER
) STRICT;
CREATE INDEX message_due ON message (account, priority, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX message_age ON message (account, waiting_since) WHERE due_at IS NOT NULL;
CREATE INDEX message_expiry ON message (expires_at)
    WHERE expires_at IS NOT NULL AND due_at IS NOT NULL;
CREATE INDEX message_done ON message (done_at) WHERE done_at IS NOT NULL;
CREATE INDEX message_segment ON message (segment) WHERE segment IS NOT NULL;
CREATE TABLE body (message INTEGER PRIMARY KEY, octets BLOB NOT NULL) STRICT;
CREATE TABLE recipient (
    message INTEGER NOT NULL,
    n INTEGER NOT NULL,
    address TEXT NOT NULL,
    state INTEGER NOT NULL,
    due_at INTEGER,
    turn_at INTEGER,
    attempts INTEGER NOT NULL,
    lease INTEGER,
    changed_at INTEGER NOT NULL,
    why TEXT,
    PRIMARY KEY (message, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE receipt (
    account INTEGER NOT NULL,
    key TEXT NOT NULL,
    message INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    accepted_at INTEGER NOT NULL,
    PRIMARY KEY (account, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX receipt_age ON receipt (accepted_at);
CREATE INDEX receipt_message ON receipt (message);
CREATE TABLE holder (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    lock TEXT,
    beats INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    joined_at INTEGER NOT NULL
) STRICT;
CREATE TABLE lease (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    message INTEGER,
    account INTEGER NOT NULL,
    holder INTEGER NOT NULL,
    recipients INTEGER NOT NULL,
    unsettled INTEGER NOT NULL,
    gone INTEGER NOT NULL,
    paced INTEGER NOT NULL
) STRICT;
CREATE TABLE slot (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account INTEGER NOT NULL,
    holder INTEGER NOT NULL
) STRICT;
CREATE TABLE pace (
    account INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    at INTEGER NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY (account, kind, at)
) STRICT, WITHOUT ROWID;
INSERT INTO account (id, name, seen, starts) VALUES (1, 'a', 1790000000000000, 1);
INSERT INTO message (id, account, priority, due_at, waiting_since, accepted_at, reverse_path,
    message_id, facts, dsn, origin, octets, sum)
    VALUES (1, 1, 1, 1790000000000000, 1790000000000000, 1790000000000000, 'm@contoso.com', '<m@contoso.com>', 0, '-FDH QQ 314',
        'sendmail uid 1000', 20, -7734366359048129583),
    (2, 1, 1, 1790000000000000, 1790000000000000, 1790000000000000, NULL, '<n@contoso.com>', 0, NULL, '', 20, -7734366359048129583);
INSERT INTO body (message, octets) VALUES (1, x'5375626a6563743a20780d0a0d0a626f64790d0a'), (2, x'5375626a6563743a20780d0a0d0a626f64790d0a');
INSERT INTO recipient (message, n, address, state, due_at, attempts, changed_at, why)
    VALUES (1, 0, 'x@example.org', 0, 1790000000000000, 0, 1790000000000000, NULL),
    (1, 1, 'y@example.org', 4, NULL, 1, 1790000000000000, '250 2.0.0 OK'),
    (2, 0, 'z@example.org', 0, 1790000000000000, 0, 1790000000000000, NULL);
