// Prints the changes of CDC tables from one node's commit log, as JSON lines, in the log's order.
//
//   java -cp 'JARS/*' CommitLogTail.java CDC_RAW SCHEMA_JSON [--from SEGMENT:OFFSET] [--once] [--poll MS]
//
// Or all that one table's files have, in the same lines, with an "end" now and then:
//
//   java -cp 'JARS/*' CommitLogTail.java - SCHEMA_JSON --copy KEYSPACE TABLE TAG JMX_HOST:PORT FOLDERS [--after TOKEN]
//
// The node flushes the table and links its files to a snapshot of that tag, which is cleared at the end. A range of tokens
// is printed of one file after the other, not merged: who takes changes in any order merges them; then the next range.
// With --after, only partitions behind that token are, in parts; without, all as one. FOLDERS, apart by ":", are where the
// node's data folders are seen here; "-" says that they are where the node says. TAG ends in "-" and a number of this run's
// own, of NONCE's form; snapshots of other runs for the same table are cleared first.
//
// It only reads. Lines (values are the node's own bytes, in hexadecimal):
//   ready      the first one: the format's number and the tables, as this program reads them
//   row        writes of cells (a tombstone has no "value"), a row's own marker, a row's deletion
//   block      writes of cells and markers of many rows, column by column; see Block
//   range, partition   deletions of everything written at or before "deleted"
//   end        the mutation above is whole; SEGMENT:OFFSET is where to go on after it. Mutations that are told by a block
//              have one end together, that of the last
//   synced     everything that the node has synced up to there has been printed
//   part       of a copy: all partitions up to and with the token "upto" have been printed, in mutations that are whole
// It stops rather than skip: see the exit codes. When its standard input ends, it ends, too.
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedOutputStream;
import java.io.ByteArrayOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.Proxy;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.management.MBeanServerConnection;
import javax.management.ObjectName;
import javax.management.remote.JMXConnector;
import javax.management.remote.JMXConnectorFactory;
import javax.management.remote.JMXServiceURL;
import org.apache.cassandra.config.DataStorageSpec;
import org.apache.cassandra.config.DatabaseDescriptor;
import org.apache.cassandra.cql3.CQLStatement;
import org.apache.cassandra.cql3.ColumnIdentifier;
import org.apache.cassandra.cql3.QueryProcessor;
import org.apache.cassandra.db.ClusteringBound;
import org.apache.cassandra.db.ClusteringPrefix;
import org.apache.cassandra.db.DecoratedKey;
import org.apache.cassandra.db.DeletionInfo;
import org.apache.cassandra.db.LivenessInfo;
import org.apache.cassandra.db.Mutation;
import org.apache.cassandra.db.RangeTombstone;
import org.apache.cassandra.db.Slice;
import org.apache.cassandra.db.commitlog.CommitLogDescriptor;
import org.apache.cassandra.db.commitlog.CommitLogPosition;
import org.apache.cassandra.db.commitlog.CommitLogReadHandler;
import org.apache.cassandra.db.commitlog.CommitLogReader;
import org.apache.cassandra.db.marshal.CompositeType;
import org.apache.cassandra.db.partitions.PartitionUpdate;
import org.apache.cassandra.db.rows.Cell;
import org.apache.cassandra.db.rows.ColumnData;
import org.apache.cassandra.db.rows.ComplexColumnData;
import org.apache.cassandra.db.rows.RangeTombstoneMarker;
import org.apache.cassandra.db.rows.Row;
import org.apache.cassandra.db.rows.Unfiltered;
import org.apache.cassandra.db.rows.UnfilteredRowIterator;
import org.apache.cassandra.dht.Murmur3Partitioner;
import org.apache.cassandra.dht.Range;
import org.apache.cassandra.dht.Token;
import org.apache.cassandra.io.sstable.Descriptor;
import org.apache.cassandra.io.sstable.ISSTableScanner;
import org.apache.cassandra.io.sstable.format.SSTableReader;
import org.apache.cassandra.io.util.RebufferingInputStream;
import org.apache.cassandra.schema.ColumnMetadata;
import org.apache.cassandra.schema.KeyspaceMetadata;
import org.apache.cassandra.schema.Keyspaces;
import org.apache.cassandra.schema.Schema;
import org.apache.cassandra.schema.SchemaTransformation;
import org.apache.cassandra.schema.TableId;
import org.apache.cassandra.schema.TableMetadata;
import org.apache.cassandra.schema.TableMetadataRef;
import org.apache.cassandra.service.ClientState;
import org.apache.cassandra.utils.ByteBufferUtil;

public final class CommitLogTail {
    static final int FORMAT = 3;

    // Exit codes; tail.py knows them.
    static final int USAGE = 2;
    static final int READER_GONE = 3;
    static final int UNDECODABLE = 4;
    static final int UNKNOWN_TABLE = 5;
    static final int POSITION_LOST = 6;
    static final int BAD_SCHEMA = 7;
    static final int NO_SNAPSHOT = 8;
    static final int SNAPSHOT_GONE = 9;

    // What Cassandra's reader says of the marker that begins a section.
    static final Pattern BAD_MARKER = Pattern.compile("bad header at position (\\d+)");
    static final Pattern NONCE = Pattern.compile("-[0-9a-f]{8}$");
    static final String GONE = "the snapshot %s was cleared while its files were read; the table has to be copied again";
    static final int BLOCK_ROWS = 2000;
    static final int BLOCK_BYTES = 1 << 20;
    static final int BLOCK_ROWS_MIN = 8; // of the log: a block of fewer costs more than their lines
    static final int LINES_TOGETHER = 500;
    static final long PART_BYTES = 1 << 22; // about, of a table's files as they are before they are compressed
    static final int PARTS_MAX = 1024;
    static final int LEAVING_MS_MAX = 10000;

    static volatile Runnable leaving = () -> { }; // what is left to do when standard input ends

    static final Pattern DROPPED_COLUMN = Pattern.compile(
        "ALTER TABLE (\"(?:[^\"]|\"\")+\"|\\w+)\\.(\"(?:[^\"]|\"\")+\"|\\w+) DROP (\"(?:[^\"]|\"\")+\"|\\w+)"
            + " USING TIMESTAMP (\\d+)", Pattern.DOTALL);

    final Path folder;
    final Set<String> ignored; // ids of tables that are nobody's business: the node's own
    final JsonGenerator out;
    long segment = -1; // what was printed last
    int offset = 0;
    int synced = 0; // how far the node says that the segment being read is synced
    final Held held = new Held(); // of the log, what was not printed yet
    int lines = 0; // since the last end, of a copy
    Block block = null; // of a copy, what was not printed yet
    boolean cut = false; // the reader met a section that is still being written

    CommitLogTail(Path folder, Set<String> ignored, JsonGenerator out) {
        this.folder = folder;
        this.ignored = ignored;
        this.out = out;
    }

    public static void main(String[] arguments) throws Exception {
        OutputStream stream = new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 18);
        System.setOut(System.err); // whatever the library prints is no line of ours
        if (arguments.length < 2) stop(USAGE, "usage: CommitLogTail CDC_RAW SCHEMA_JSON [options]");
        boolean once = false;
        long poll = 20;
        String from = null;
        String[] copied = null;
        Long after = null;
        for (int i = 2; i < arguments.length; i++) {
            switch (arguments[i]) {
                case "--once": once = true; break;
                case "--poll": poll = Long.parseLong(arguments[++i]); break;
                case "--from": from = arguments[++i]; break;
                case "--after": after = Long.parseLong(arguments[++i]); break;
                case "--copy":
                    copied = new String[] {
                        arguments[++i], arguments[++i], arguments[++i], arguments[++i], arguments[++i]};
                    break;
                default: stop(USAGE, "unknown option " + arguments[i]);
            }
        }
        endWithStandardInput();
        Set<String> ignored = loadSchema(Paths.get(arguments[1]));
        JsonGenerator out = new JsonFactory().createGenerator(stream);
        out.setRootValueSeparator(new com.fasterxml.jackson.core.io.SerializedString(""));
        CommitLogTail tail = new CommitLogTail(Paths.get(arguments[0]), ignored, out);
        try {
            tail.ready();
            if (copied != null) {
                tail.copy(copied[0], copied[1], copied[2], copied[3], copied[4], after);
                out.flush();
                System.exit(0);
            }
            if (from != null) tail.resume(from);
            do {
                boolean progress = tail.pass();
                out.flush();
                if (!progress && !once) Thread.sleep(poll);
            } while (!once);
        } catch (IOException error) {
            stop(READER_GONE, "cannot write: " + error.getMessage());
        }
        System.exit(0);
    }

    static void stop(int code, String why) {
        System.err.println(why);
        System.exit(code);
    }

    /** Whoever started us holds our standard input; a helper must not outlive it. */
    static void endWithStandardInput() {
        Thread watcher = new Thread(() -> {
            try (InputStream in = System.in) {
                while (in.read() >= 0) { }
            } catch (IOException error) {
                // gone as well
            }
            Thread clearing = new Thread(leaving);
            clearing.setDaemon(true);
            clearing.start();
            try {
                clearing.join(LEAVING_MS_MAX);
            } catch (InterruptedException error) {
                // then at once
            }
            Runtime.getRuntime().halt(0);
        }, "standard input");
        watcher.setDaemon(true);
        watcher.start();
    }

    // -- the schema

    static Set<String> loadSchema(Path file) {
        Set<String> ignored = new HashSet<>();
        try {
            DatabaseDescriptor.clientInitialization(false);
            // Without it every mutation fails in client mode.
            DatabaseDescriptor.getRawConfig().max_mutation_size = new DataStorageSpec.IntKibibytesBound("256MiB");
            if (DatabaseDescriptor.getPartitioner() == null)
                DatabaseDescriptor.setPartitionerUnsafe(Murmur3Partitioner.instance);
            JsonNode schema = new ObjectMapper().readTree(file.toFile());
            for (JsonNode id : schema.get("ignored")) ignored.add(id.asText());
            List<String> statements = new ArrayList<>();
            for (JsonNode statement : schema.get("statements")) statements.add(statement.asText());
            transform(statements);
        } catch (Throwable error) {
            Throwable cause = error;
            while (cause instanceof ReflectiveOperationException && cause.getCause() != null) cause = cause.getCause();
            stop(BAD_SCHEMA, "the schema cannot be loaded: " + cause);
        }
        return ignored;
    }

    /** Until 5.0 a function changes the schema; in 6.0 it is a part of the cluster's metadata, and that is given. */
    static void transform(List<String> statements) throws ReflectiveOperationException {
        Class<?> services;
        try {
            services = Class.forName("org.apache.cassandra.tcm.ClusterMetadataService");
        } catch (ClassNotFoundException older) {
            Class<?>[] kind = {SchemaTransformation.class};
            Object whole = Proxy.newProxyInstance(kind[0].getClassLoader(), kind, (proxy, method, given) -> {
                if (!method.getName().equals("apply")) return Optional.empty(); // at no time of its own
                Keyspaces keyspaces = (Keyspaces) given[0];
                for (String statement : statements) keyspaces = apply(keyspaces, keyspaces, statement);
                return keyspaces;
            });
            Schema.class.getMethod("transform", kind).invoke(Schema.instance, whole);
            return;
        }
        services.getMethod("initializeForClients").invoke(null);
        Object service = services.getMethod("instance").invoke(null);
        Object metadata = services.getMethod("metadata").invoke(service);
        Class<?> epochs = Class.forName("org.apache.cassandra.tcm.Epoch");
        Object empty = epochs.getField("EMPTY").get(null);
        Class<?> schemas = Class.forName("org.apache.cassandra.schema.DistributedSchema");
        for (String statement : statements) {
            Object schema = metadata.getClass().getField("schema").get(metadata);
            Keyspaces keyspaces = (Keyspaces) schemas.getMethod("getKeyspaces").invoke(schema);
            Object next = schemas.getConstructor(Keyspaces.class).newInstance(apply(keyspaces, metadata, statement));
            Object transformer = metadata.getClass().getMethod("transformer").invoke(metadata);
            transformer = transformer.getClass().getMethod("with", schemas).invoke(transformer, next);
            Object transformed = transformer.getClass().getMethod("build").invoke(transformer);
            metadata = transformed.getClass().getField("metadata").get(transformed);
            // Of a schema that were later than a mutation it would be said that its table is not there yet.
            metadata = metadata.getClass().getMethod("forceEpoch", epochs).invoke(metadata, empty);
        }
        service.getClass().getMethod("setMetadata", metadata.getClass()).invoke(service, metadata);
    }

    /** The keyspaces behind a statement; `within` is what this version's statements are applied to. */
    static Keyspaces apply(Keyspaces keyspaces, Object within, String statement) throws ReflectiveOperationException {
        Matcher dropped = DROPPED_COLUMN.matcher(statement);
        if (dropped.lookingAt()) return recordDrop(keyspaces, dropped);
        CQLStatement.Raw raw = QueryProcessor.parseStatement(statement);
        Object prepared = raw.prepare(ClientState.forInternalCalls());
        Class<?> given = within instanceof Keyspaces ? Keyspaces.class : within.getClass();
        return (Keyspaces) SchemaTransformation.class.getMethod("apply", given).invoke(prepared, within);
    }

    /** Executing the statement would want data directories; reading old mutations only needs the record. */
    static Keyspaces recordDrop(Keyspaces keyspaces, Matcher dropped) {
        KeyspaceMetadata keyspace = keyspaces.getNullable(plain(dropped.group(1)));
        TableMetadata table = keyspace.tables.getNullable(plain(dropped.group(2)));
        ColumnMetadata column = table.getColumn(ColumnIdentifier.getInterned(plain(dropped.group(3)), true));
        TableMetadata.Builder builder = table.unbuild();
        builder.removeRegularOrStaticColumn(column.name);
        builder.recordColumnDrop(column, Long.parseLong(dropped.group(4)));
        return keyspaces.withAddedOrUpdated(keyspace.withSwapped(keyspace.tables.withSwapped(builder.build())));
    }

    static String plain(String identifier) {
        if (!identifier.startsWith("\"")) return identifier;
        return identifier.substring(1, identifier.length() - 1).replace("\"\"", "\"");
    }

    void ready() throws IOException {
        begin("ready");
        out.writeNumberField("format", FORMAT);
        out.writeArrayFieldStart("tables");
        for (KeyspaceMetadata keyspace : Schema.instance.distributedKeyspaces())
            for (TableMetadata table : keyspace.tables)
                if (table.params.cdc) describe(table);
        out.writeEndArray();
        finish();
    }

    void describe(TableMetadata table) throws IOException {
        out.writeStartObject();
        out.writeStringField("id", table.id.asUUID().toString());
        out.writeStringField("keyspace", table.keyspace);
        out.writeStringField("table", table.name);
        columns("partition_key", table.partitionKeyColumns());
        columns("clustering", table.clusteringColumns());
        columns("static", table.staticColumns());
        columns("regular", table.regularColumns());
        out.writeEndObject();
    }

    void columns(String field, Iterable<ColumnMetadata> columns) throws IOException {
        out.writeArrayFieldStart(field);
        for (ColumnMetadata column : columns) {
            out.writeStartArray();
            out.writeString(column.name.toString());
            out.writeString(column.type.asCQL3Type().toString());
            out.writeBoolean(column.isComplex());
            out.writeEndArray();
        }
        out.writeEndArray();
    }

    // -- the folder

    void resume(String from) throws IOException {
        String[] parts = from.split(":");
        segment = Long.parseLong(parts[0]);
        offset = Integer.parseInt(parts[1]);
        if (!indexes().containsKey(segment)) {
            out.flush();
            stop(POSITION_LOST, "segment " + segment + " is no longer in " + folder);
        }
    }

    /** Segments of the log that hold changes of CDC tables, oldest first. */
    Map<Long, Path> indexes() throws IOException {
        Map<Long, Path> found = new TreeMap<>();
        try (DirectoryStream<Path> files = Files.newDirectoryStream(folder, "*_cdc.idx")) {
            for (Path file : files) {
                String name = file.getFileName().toString();
                found.put(Long.parseLong(name.substring(name.lastIndexOf('-') + 1, name.indexOf("_cdc"))), file);
            }
        }
        return found;
    }

    /** Print what is new. A segment is left for the next one only when the node has completed it. */
    boolean pass() throws IOException {
        boolean progress = false;
        for (Map.Entry<Long, Path> entry : indexes().entrySet()) {
            long id = entry.getKey();
            if (id < segment) continue;
            List<String> lines;
            try {
                lines = Files.readAllLines(entry.getValue());
            } catch (NoSuchFileException gone) {
                stop(POSITION_LOST, "segment " + id + " was deleted before it was read");
                return false;
            }
            if (lines.isEmpty() || lines.get(0).isEmpty()) break; // being written
            int end = Integer.parseInt(lines.get(0).trim());
            boolean completed = lines.size() > 1 && lines.get(1).startsWith("COMPLETED");
            int start = id == segment ? offset : 0;
            if (end > start) {
                read(entry.getValue(), id, start, end);
                // The torn end of a completed segment is a crash's: the node did not replay it either.
                if (cut && !completed) break;
                offset = end;
                position("synced");
                progress = true;
            }
            if (!completed) break;
        }
        return progress;
    }

    void read(Path index, long id, int start, int end) throws IOException {
        synced = end;
        cut = false;
        segment = id;
        offset = start;
        String log = index.toString().replace("_cdc.idx", ".log");
        try {
            new Reader().readCommitLogSegment(
                new Handler(), new org.apache.cassandra.io.util.File(log), new CommitLogPosition(id, start),
                CommitLogReader.ALL_MUTATIONS, true);
        } catch (BehindSynced all) {
            // all that is synced was read
        }
        held.print();
    }

    /** The reader went on to a section that the node has not synced, and may be writing. */
    static final class BehindSynced extends IOException { }

    /** Cassandra's reader only counts the mutations of tables that it does not know; we stop there. */
    final class Reader extends CommitLogReader {
        @Override
        protected void readMutation(CommitLogReadHandler handler, byte[] buffer, int size,
                CommitLogPosition minimum, int location, CommitLogDescriptor descriptor) throws IOException {
            super.readMutation(handler, buffer, size, minimum, location, descriptor);
            for (Map.Entry<?, ?> unknown : getInvalidMutations()) {
                String id = ((TableId) unknown.getKey()).asUUID().toString();
                if (ignored.contains(id)) continue;
                held.print();
                out.flush();
                stop(UNKNOWN_TABLE, "table id " + id + " is not in the schema");
            }
        }
    }

    final class Handler implements CommitLogReadHandler {
        @Override
        public boolean shouldSkipSegmentOnError(CommitLogReadException error) throws IOException {
            if (!error.permissible) handleUnrecoverableError(error);
            cut = true;
            return true;
        }

        @Override
        public void handleUnrecoverableError(CommitLogReadException error) throws IOException {
            Matcher marker = BAD_MARKER.matcher(error.getMessage());
            if (marker.find() && Integer.parseInt(marker.group(1)) >= synced) throw new BehindSynced();
            held.print();
            out.flush();
            stop(UNDECODABLE, "after " + segment + ":" + offset + ": " + error.getMessage());
        }

        @Override
        public void handleMutation(Mutation mutation, int size, int location, CommitLogDescriptor descriptor) {
            if (location <= offset || location > synced) return;
            try {
                List<PartitionUpdate> updates = new ArrayList<>();
                for (PartitionUpdate update : mutation.getPartitionUpdates())
                    if (update.metadata().params.cdc) updates.add(update);
                if (updates.size() == 1 && onlyWrites(updates.get(0))) {
                    held.add(updates.get(0), size, location);
                    return;
                }
                if (!updates.isEmpty()) held.print();
                for (PartitionUpdate update : updates) update(update);
                offset = location;
                if (!updates.isEmpty()) position("end");
            } catch (IOException error) {
                stop(READER_GONE, "cannot write: " + error.getMessage());
            }
        }
    }

    /** Whether it is writes of cells and markers in rows, and nothing else: what a block can tell. */
    static boolean onlyWrites(PartitionUpdate update) {
        if (!update.partitionLevelDeletion().isLive() || update.deletionInfo().hasRanges()) return false;
        if (!update.staticRow().isEmpty()) return false;
        for (Row row : update) if (deletes(row)) return false;
        return true;
    }

    static boolean deletes(Row row) {
        boolean deletes = !row.deletion().isLive();
        for (ColumnData data : row)
            deletes |= data.column().isComplex() && !((ComplexColumnData) data).complexDeletion().isLive();
        return deletes;
    }

    /** Mutations of one table that follow one another and only write: printed as a block, or as lines if they are few. */
    final class Held {
        final List<PartitionUpdate> updates = new ArrayList<>();
        final List<Integer> ends = new ArrayList<>();
        int rows = 0;
        int bytes = 0;

        void add(PartitionUpdate update, int size, int end) throws IOException {
            if (!updates.isEmpty() && updates.get(0).metadata() != update.metadata()) print();
            updates.add(update);
            ends.add(end);
            for (Row unused : update) rows++;
            bytes += size;
            offset = end;
            if (rows >= BLOCK_ROWS || bytes >= BLOCK_BYTES) print();
        }

        void print() throws IOException {
            boolean together = rows >= BLOCK_ROWS_MIN;
            Block made = together ? new Block(updates.get(0).metadata()) : null;
            for (int i = 0; i < updates.size(); i++) {
                PartitionUpdate update = updates.get(i);
                if (!together) {
                    update(update);
                    position("end", ends.get(i));
                    continue;
                }
                for (Row row : update) {
                    made.add(update.partitionKey(), row);
                    made.end.add(ends.get(i), 4);
                }
            }
            if (together) {
                made.write();
                position("end");
            }
            updates.clear();
            ends.clear();
            rows = bytes = 0;
        }
    }

    // -- a table's files

    void copy(String keyspace, String name, String tag, String node, String seen, Long after) throws IOException {
        JMXServiceURL url = new JMXServiceURL("service:jmx:rmi:///jndi/rmi://" + node + "/jmxrmi");
        String[] kinds = {"java.lang.String", "[Ljava.lang.String;"};
        try (JMXConnector connector = JMXConnectorFactory.connect(url)) {
            MBeanServerConnection server = connector.getMBeanServerConnection();
            ObjectName service = new ObjectName("org.apache.cassandra.db:type=StorageService");
            TableMetadata table = Schema.instance.getTableMetadata(keyspace, name);
            if (table == null) stop(UNKNOWN_TABLE, "table " + keyspace + "." + name + " is not in the schema");
            List<Path> folders = new ArrayList<>();
            String[] locations = seen.equals("-")
                ? (String[]) server.getAttribute(service, "AllDataFileLocations") : seen.split(":");
            for (String location : locations) {
                Path there = Paths.get(location, keyspace, name + "-" + table.id.toHexString());
                // The node made it with the table: without it these are not the node's folders.
                if (!Files.isDirectory(there)) stop(NO_SNAPSHOT, there + " is not there");
                folders.add(there.resolve("snapshots"));
            }
            for (String former : formerTags(folders, tag))
                server.invoke(service, "clearSnapshot", new Object[] {former, new String[] {keyspace}}, kinds);
            Object[] snapshot = {tag, new String[] {keyspace}};
            leaving = () -> {
                try {
                    server.invoke(service, "clearSnapshot", snapshot, kinds);
                } catch (Exception error) {
                    // the next copy does it
                }
            };
            server.invoke(service, "takeSnapshot",
                new Object[] {tag, new HashMap<String, String>(), new String[] {keyspace + "." + name}},
                new String[] {kinds[0], "java.util.Map", kinds[1]});
            try {
                Set<String> expected = listed(folders, tag);
                Map<String, SSTableReader> files = new HashMap<>();
                for (Path there : folders) open(table, there.resolve(tag), files);
                if (!files.keySet().containsAll(expected)) stop(SNAPSHOT_GONE, String.format(GONE, tag));
                print(table, files.values(), after);
                out.flush();
            } catch (NoSuchFileException gone) {
                out.flush();
                stop(SNAPSHOT_GONE, String.format(GONE, tag) + ": " + gone.getMessage());
            } catch (RuntimeException error) { // the node's classes say so that a file cannot be read
                out.flush();
                stop(NO_SNAPSHOT, "files of " + keyspace + "." + name + " cannot be read: " + error);
            } finally {
                server.invoke(service, "clearSnapshot", snapshot, kinds);
            }
        } catch (javax.management.JMException | java.io.IOException error) {
            stop(NO_SNAPSHOT, "no snapshot of " + keyspace + "." + name + " over JMX at " + node + ": " + error);
        }
    }

    /** What other runs for the same table have left, an older htapkit's without a nonce among them. */
    static Set<String> formerTags(List<Path> folders, String tag) throws IOException {
        String whose = NONCE.matcher(tag).replaceFirst("");
        Set<String> found = new HashSet<>();
        for (Path folder : folders) {
            if (!Files.isDirectory(folder)) continue; // none was ever made
            try (DirectoryStream<Path> tags = Files.newDirectoryStream(folder)) {
                for (Path each : tags) {
                    String name = each.getFileName().toString();
                    if (NONCE.matcher(name).replaceFirst("").equals(whose)) found.add(name);
                }
            }
        }
        return found;
    }

    /** Files of the table that the node itself says it has linked: it writes that beside them, of none as well. */
    static Set<String> listed(List<Path> folders, String tag) throws IOException {
        Set<String> found = new HashSet<>();
        boolean any = false;
        for (Path folder : folders) {
            Path manifest = folder.resolve(tag).resolve("manifest.json");
            if (!Files.exists(manifest)) continue;
            any = true;
            for (JsonNode file : new ObjectMapper().readTree(manifest.toFile()).get("files"))
                if (!file.asText().contains("/")) found.add(file.asText()); // others are of indexes
        }
        if (!any) stop(SNAPSHOT_GONE, String.format(GONE, tag));
        return found;
    }

    /** Opens the files of a snapshot, by their names: what is open can be read whatever becomes of the snapshot. */
    static void open(TableMetadata table, Path folder, Map<String, SSTableReader> found) throws IOException {
        if (!Files.isDirectory(folder)) return; // none is at this location
        TableMetadataRef reference = TableMetadataRef.forOfflineTools(table);
        try (DirectoryStream<Path> files = Files.newDirectoryStream(folder, "*-Data.db")) {
            for (Path file : files)
                found.put(file.getFileName().toString(),
                    opened(new org.apache.cassandra.io.util.File(file), reference));
        }
    }

    /** Prints what they have behind a token (null: all), a range of tokens of all of them after the other. */
    void print(TableMetadata table, Collection<SSTableReader> files, Long after) throws IOException {
        long bytes = 0;
        for (SSTableReader file : files) bytes += file.uncompressedLength();
        long parts = after == null ? 1 : Math.max(1, Math.min(PARTS_MAX, bytes / PART_BYTES));
        // The smallest token is no partition's.
        for (long[] range : ranges(after == null ? Long.MIN_VALUE : after, parts)) {
            boolean any = false;
            Range<Token> wanted = new Range<>(
                new Murmur3Partitioner.LongToken(range[0]), new Murmur3Partitioner.LongToken(range[1]));
            for (SSTableReader file : files)
                try (ISSTableScanner scanner = file.getScanner(Collections.singleton(wanted))) {
                    while (scanner.hasNext())
                        try (UnfilteredRowIterator partition = scanner.next()) {
                            partition(table, partition);
                            any = true;
                            if (lines >= LINES_TOGETHER) endBlock();
                        }
                }
            if (!any) continue;
            endBlock();
            if (range[1] == Long.MIN_VALUE) break; // the end says so
            begin("part");
            out.writeNumberField("upto", range[1]);
            finish();
        }
    }

    /** All tokens behind one, in ranges as wide as a part of all of them; the last goes on to the smallest: the end. */
    static List<long[]> ranges(long after, long parts) {
        List<long[]> found = new ArrayList<>();
        long width = Long.divideUnsigned(-1L, parts), from = after; // a whole ring is 2^64 wide
        while (parts > 1 && Long.compareUnsigned(Long.MAX_VALUE - from, width) > 0) {
            found.add(new long[] {from, from + width});
            from += width;
        }
        found.add(new long[] {from, Long.MIN_VALUE});
        return found;
    }

    /** 5.0 has other signatures than 4.1. */
    static SSTableReader opened(org.apache.cassandra.io.util.File file, TableMetadataRef table) throws IOException {
        Class<?> here = org.apache.cassandra.io.util.File.class;
        try {
            try {
                Class<?> owner = Class.forName("org.apache.cassandra.io.sstable.SSTable$Owner");
                Object descriptor = Descriptor.class.getMethod("fromFile", here).invoke(null, file);
                return (SSTableReader) SSTableReader.class
                    .getMethod("openNoValidation", owner, Descriptor.class, TableMetadataRef.class)
                    .invoke(null, null, descriptor, table);
            } catch (ClassNotFoundException older) {
                Object descriptor = Descriptor.class.getMethod("fromFilename", here).invoke(null, file);
                return (SSTableReader) SSTableReader.class
                    .getMethod("openNoValidation", Descriptor.class, TableMetadataRef.class)
                    .invoke(null, descriptor, table);
            }
        } catch (ReflectiveOperationException error) {
            throw new IOException("cannot open " + file + ": " + (error.getCause() == null ? error : error.getCause()));
        }
    }

    void partition(TableMetadata table, UnfilteredRowIterator partition) throws IOException {
        DecoratedKey key = partition.partitionKey();
        if (!partition.partitionLevelDeletion().isLive()) {
            head("partition", table, key);
            out.writeNumberField("deleted", partition.partitionLevelDeletion().markedForDeleteAt());
            finish();
        }
        if (!partition.staticRow().isEmpty()) row(table, key, partition.staticRow(), true, true);
        ClusteringBound<?> from = null;
        long deleted = 0;
        while (partition.hasNext()) {
            Unfiltered next = partition.next();
            if (next.isRow()) {
                inBlock(table, key, (Row) next);
                continue;
            }
            RangeTombstoneMarker marker = (RangeTombstoneMarker) next;
            if (marker.isClose(false)) range(table, key, from, marker.closeBound(false), deleted);
            if (marker.isOpen(false)) {
                from = marker.openBound(false);
                deleted = marker.openDeletionTime(false).markedForDeleteAt();
            }
            if (lines >= LINES_TOGETHER) endBlock();
        }
    }

    /** A row's cells go into the block, what it deleted into a line. */
    void inBlock(TableMetadata table, DecoratedKey key, Row row) throws IOException {
        if (deletes(row)) row(table, key, row, false, false);
        if (block == null) block = new Block(table);
        block.add(key, row);
        if (block.rows == BLOCK_ROWS || block.bytes() >= BLOCK_BYTES) endBlock();
    }

    /** Who takes lines has them in memory up to their end. */
    void endBlock() throws IOException {
        if (block != null) block.write();
        block = null;
        position("end");
        lines = 0;
    }

    /**
     * Cells of many rows. A column of bytes is {"offsets": as many as there are values and one, "there": a byte each,
     * "data"}, a column of numbers its bytes, little-endian, both in base64:
     * key, clustering (one column of bytes for each of the table's, a value for each row), end (4 bytes for each row: in
     * the log, the offset at which its mutation ends; of a copy there is none), and for each cell:
     * row (its number, 4 bytes), column (4 bytes, of "columns"; -1: the row's own marker), written (8), ttl (4; 0: none),
     * expires (8; -1: never; of a tombstone when it was made), value and path (bytes; not there: a tombstone, no element).
     */
    final class Block {
        final TableMetadata table;
        final Map<ColumnMetadata, Integer> columns = new LinkedHashMap<>();
        final Values[] key, clustering;
        final Numbers end = new Numbers(), row = new Numbers(), column = new Numbers(), ttl = new Numbers();
        final Numbers written = new Numbers(), expires = new Numbers();
        final Values value = new Values(), path = new Values();
        int rows = 0;

        Block(TableMetadata table) {
            this.table = table;
            key = Values.several(table.partitionKeyColumns().size());
            clustering = Values.several(table.clusteringColumns().size());
        }

        int bytes() {
            int bytes = value.data.size() + path.data.size() + written.data.position() * 4;
            for (Values each : key) bytes += each.data.size();
            for (Values each : clustering) bytes += each.data.size();
            return bytes;
        }

        void add(DecoratedKey partition, Row each) {
            ByteBuffer[] there = components(table, partition);
            for (int i = 0; i < key.length; i++) key[i].add(there[i]);
            ByteBuffer[] within = ((ClusteringPrefix<?>) each.clustering()).getBufferArray();
            for (int i = 0; i < clustering.length; i++) clustering[i].add(i < within.length ? within[i] : null);
            LivenessInfo marker = each.primaryKeyLivenessInfo();
            if (!marker.isEmpty()) {
                boolean ends = marker.isExpiring();
                cell(-1, marker.timestamp(), ends ? marker.ttl() : 0, ends ? marker.localExpirationTime() : -1);
                value.add(ByteBufferUtil.EMPTY_BYTE_BUFFER);
                path.add(null);
            }
            for (ColumnData data : each) {
                int number = columns.computeIfAbsent(data.column(), unused -> columns.size());
                if (data.column().isComplex()) {
                    for (Cell<?> element : (ComplexColumnData) data) cell(number, element, element.path().get(0));
                } else {
                    cell(number, (Cell<?>) data, null);
                }
            }
            rows++;
        }

        void cell(int number, Cell<?> cell, ByteBuffer element) {
            boolean ends = cell.isExpiring();
            cell(number, cell.timestamp(), ends ? cell.ttl() : 0,
                ends || cell.isTombstone() ? cell.localDeletionTime() : -1);
            value.add(cell.isTombstone() ? null : cell.buffer());
            path.add(element);
        }

        void cell(int number, long time, int lives, long until) {
            row.add(rows, 4);
            column.add(number, 4);
            written.add(time, 8);
            ttl.add(lives, 4);
            expires.add(until, 8);
        }

        void write() throws IOException {
            begin("block");
            out.writeStringField("table", table.id.asUUID().toString());
            out.writeArrayFieldStart("columns");
            for (ColumnMetadata each : columns.keySet()) out.writeString(each.name.toString());
            out.writeEndArray();
            values("key", key);
            values("clustering", clustering);
            out.writeBinaryField("end", end.bytes());
            out.writeBinaryField("row", row.bytes());
            out.writeBinaryField("column", column.bytes());
            out.writeBinaryField("written", written.bytes());
            out.writeBinaryField("ttl", ttl.bytes());
            out.writeBinaryField("expires", expires.bytes());
            out.writeFieldName("value");
            value.write(out);
            out.writeFieldName("path");
            path.write(out);
            finish();
        }

        void values(String field, Values[] several) throws IOException {
            out.writeArrayFieldStart(field);
            for (Values each : several) each.write(out);
            out.writeEndArray();
        }
    }

    static final class Numbers {
        ByteBuffer data = ByteBuffer.allocate(1 << 12).order(ByteOrder.LITTLE_ENDIAN);

        void add(long number, int width) {
            if (data.remaining() < width)
                data = ByteBuffer.allocate(2 * data.capacity()).order(ByteOrder.LITTLE_ENDIAN).put(data.flip());
            if (width == 4) data.putInt((int) number);
            else data.putLong(number);
        }

        byte[] bytes() {
            return Arrays.copyOf(data.array(), data.position());
        }
    }

    static final class Values {
        final ByteArrayOutputStream data = new ByteArrayOutputStream(), there = new ByteArrayOutputStream();
        final Numbers offsets = new Numbers();

        Values() {
            offsets.add(0, 4);
        }

        static Values[] several(int number) {
            Values[] made = new Values[number];
            for (int i = 0; i < number; i++) made[i] = new Values();
            return made;
        }

        void add(ByteBuffer value) {
            if (value != null) {
                byte[] bytes = ByteBufferUtil.getArray(value);
                data.write(bytes, 0, bytes.length);
            }
            there.write(value == null ? 0 : 1);
            offsets.add(data.size(), 4);
        }

        void write(JsonGenerator out) throws IOException {
            out.writeStartObject();
            out.writeBinaryField("offsets", offsets.bytes());
            out.writeBinaryField("there", there.toByteArray());
            out.writeBinaryField("data", data.toByteArray());
            out.writeEndObject();
        }
    }

    // -- lines

    void begin(String kind) throws IOException {
        out.writeStartObject();
        out.writeStringField("kind", kind);
    }

    void finish() throws IOException {
        out.writeEndObject();
        out.writeRaw('\n');
        lines++;
    }

    void position(String kind) throws IOException {
        position(kind, offset);
    }

    void position(String kind, int at) throws IOException {
        begin(kind);
        out.writeNumberField("segment", segment);
        out.writeNumberField("offset", at);
        finish();
    }

    void update(PartitionUpdate update) throws IOException {
        TableMetadata table = update.metadata();
        DecoratedKey key = update.partitionKey();
        if (!update.partitionLevelDeletion().isLive()) {
            head("partition", table, key);
            out.writeNumberField("deleted", update.partitionLevelDeletion().markedForDeleteAt());
            finish();
        }
        DeletionInfo deletions = update.deletionInfo();
        if (deletions.hasRanges()) {
            for (Iterator<RangeTombstone> each = deletions.rangeIterator(false); each.hasNext();)
                range(table, key, each.next());
        }
        if (!update.staticRow().isEmpty()) row(table, key, update.staticRow(), true, true);
        for (Row row : update) row(table, key, row, false, true);
    }

    void head(String kind, TableMetadata table, DecoratedKey key) throws IOException {
        begin(kind);
        out.writeStringField("table", table.id.asUUID().toString());
        hexes("key", components(table, key));
    }

    static ByteBuffer[] components(TableMetadata table, DecoratedKey key) {
        ByteBuffer bytes = key.getKey();
        boolean single = table.partitionKeyColumns().size() == 1;
        return single ? new ByteBuffer[] {bytes} : ((CompositeType) table.partitionKeyType).split(bytes);
    }

    void range(TableMetadata table, DecoratedKey key, RangeTombstone tombstone) throws IOException {
        Slice slice = tombstone.deletedSlice();
        range(table, key, slice.start(), slice.end(), tombstone.deletionTime().markedForDeleteAt());
    }

    void range(TableMetadata table, DecoratedKey key, ClusteringBound<?> start, ClusteringBound<?> end, long deleted)
            throws IOException {
        head("range", table, key);
        hexes("start", start.getBufferArray());
        out.writeBooleanField("start_inclusive", start.isInclusive());
        hexes("end", end.getBufferArray());
        out.writeBooleanField("end_inclusive", end.isInclusive());
        out.writeNumberField("deleted", deleted);
        finish();
    }

    /** All that it has; without `written` only what it deleted. */
    void row(TableMetadata table, DecoratedKey key, Row row, boolean isStatic, boolean written) throws IOException {
        head("row", table, key);
        if (!isStatic) hexes("clustering", ((ClusteringPrefix<?>) row.clustering()).getBufferArray());
        out.writeBooleanField("static", isStatic);
        LivenessInfo marker = row.primaryKeyLivenessInfo();
        if (written && !marker.isEmpty()) {
            out.writeNumberField("written", marker.timestamp());
            if (marker.isExpiring()) expiry(marker.ttl(), marker.localExpirationTime());
        }
        if (!row.deletion().isLive()) out.writeNumberField("deleted", row.deletion().time().markedForDeleteAt());
        out.writeArrayFieldStart("cells");
        for (ColumnData data : row) {
            if (!data.column().isComplex()) {
                if (written) cell(data.column(), (Cell<?>) data, null);
                continue;
            }
            ComplexColumnData complex = (ComplexColumnData) data;
            if (!complex.complexDeletion().isLive()) {
                out.writeStartObject();
                out.writeStringField("column", data.column().name.toString());
                out.writeNumberField("reset", complex.complexDeletion().markedForDeleteAt());
                out.writeEndObject();
            }
            if (written)
                for (Cell<?> each : complex) cell(data.column(), each, each.path().get(0));
        }
        out.writeEndArray();
        finish();
    }

    void cell(ColumnMetadata column, Cell<?> cell, ByteBuffer path) throws IOException {
        out.writeStartObject();
        out.writeStringField("column", column.name.toString());
        out.writeNumberField("written", cell.timestamp());
        if (path != null) out.writeStringField("path", ByteBufferUtil.bytesToHex(path));
        if (!cell.isTombstone()) out.writeStringField("value", ByteBufferUtil.bytesToHex(cell.buffer()));
        if (cell.isExpiring()) expiry(cell.ttl(), cell.localDeletionTime());
        else if (cell.isTombstone()) out.writeNumberField("expires", cell.localDeletionTime());
        out.writeEndObject();
    }

    void expiry(int ttl, long expires) throws IOException {
        out.writeNumberField("ttl", ttl);
        out.writeNumberField("expires", expires);
    }

    void hexes(String field, ByteBuffer[] values) throws IOException {
        out.writeArrayFieldStart(field);
        for (ByteBuffer value : values) {
            if (value == null) out.writeNull();
            else out.writeString(ByteBufferUtil.bytesToHex(value));
        }
        out.writeEndArray();
    }
}
